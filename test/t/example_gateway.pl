# examples/gateway: calls of a language model, reserved, streamed and charged.
use strict;
use warnings;
use lib 'test';
use Example;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $nodejs = find_program('node', 'nodejs');
my $dir = install_packages('examples/gateway', '--omit=dev');
my $server = protected_server("log_statement = 'all'", "apikey.flush_interval = '1s'", "max_connections = 50");
$server->command_ok([ 'psql', '-Xq', '-d', 'postgres', '-f', 'examples/gateway/gateway.sql' ], 'gateway.sql');
sub sql { return $server->safe_psql('postgres', join ';', @_) }
my @keys = map { create_key($server, "'client-$_', 'acme/" . ($_ % 2 ? 'payments' : 'website') . "'") } 1 .. 5;
my $tight = create_key($server, "'tight', 'acme/payments'");
sql("SELECT auth.apikey_limit_set('tokens', 10000000, '1 month', 'quota', path => 'acme')");
my $left_before = 10000000;

local $ENV{MODEL_DELAY} = 5;
my $model = start_program($dir, $nodejs, 'model.js');
$ENV{MODEL_URL} = "http://127.0.0.1:$model->{port}";
my $gateway = start_program($dir, $nodejs, 'gateway.js');

sub ask
{
	my ($key, $content, $most, %headers) = @_;
	return request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $key, 'content-type' => 'application/json', %headers },
		encode_json({ messages => [ { role => 'user', content => $content } ], max_tokens => $most }));
}
sub left { return sql("SELECT remaining FROM auth.apikey_limits WHERE path = 'acme' AND unit = 'tokens' AND kind = 'quota'") }
# Once all is settled.
sub spent_is
{
	my ($tokens, $name) = @_;
	$server->poll_query_until('postgres', "SELECT remaining = $left_before - $tokens FROM auth.apikey_limits WHERE path = 'acme' AND unit = 'tokens' AND kind = 'quota'");
	is($left_before - left(), $tokens, $name);
	$left_before = left();
}

# One call: streamed whole, and charged what the model says.
my $response = ask($keys[0], 'tell me of three things', 40);
is($response->{status}, 200, 'a call');
like($response->{content}, qr/word30 .*\[DONE\]\s*$/s, 'to its end');
unlike($response->{content}, qr/word31/, 'and no further');
like($response->{headers}{'ratelimit-policy'}, qr/^"organization-tokens-quota-\d+";q=10000000;qu="tokens";w=\d+$/, 'under which limit');
like($response->{headers}{ratelimit}, qr/^"organization-tokens-quota-\d+";r=9999954;t=\d+$/, 'of which what is left is told, with what it may take');
spent_is(35, 'five tokens in, thirty out');
is($response->{headers}{vary}, 'x-api-key, authorization', 'no cache mixes keys');

# What cannot be asked, and a model that fails: nothing is spent.
is(ask($keys[0], 'x', $_)->{status}, 400, "max_tokens $_") for 0, 4097, 1.5;
is(request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $keys[0] }, $_)->{status}, 400, 'no call') for '{', '[]', '{"messages": []}', '{"messages": [{"content": 1}]}';
is(request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $keys[0] }, 'x' x 1_100_000)->{status}, 400, 'a long one');
for my $more ('"n": 50', '"best_of": 50', '"max_completion_tokens": 100000', '"tools": []', '"__proto__": {"n": 50}')
{
	is(request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $keys[0] }, qq({"messages": [{"content": "x"}], $more}))->{status}, 400, "what may take more than is reserved: $more");
}
is(request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $keys[0] }, qq({"messages": [{"content": "x", $_}]}))->{status}, 400, "the same in a message: $_")
  for '"tool_calls": [{"function": {"arguments": "much"}}]', '"role": "a long text"', '"role": ["user"]';
is(request($gateway, 'GET', '/')->{status}, 404, 'nothing else is here');
is(ask($keys[0], 'fail', 10)->{status}, 502, 'a model that fails');
spent_is(0, 'nothing is spent');
is(request($gateway, 'POST', '/v1/chat/completions', { 'x-api-key' => $keys[0] }, '{"messages": [{"role": "system", "content": "be brief"}, {"content": "x"}], "max_tokens": 4, "model": "m", "temperature": 0.5}')->{status}, 200, 'what takes no more is passed on');
spent_is(6, 'and charged');
$response = ask('', 'x', 1);
is("$response->{status} $response->{content}", '401 {"error":"missing"}', 'no key');
my $stranger = $server->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; GRANT USAGE ON SCHEMA auth TO mallory') .
	$server->safe_psql('postgres', "SELECT auth.apikey_create('mine')", extra_params => [ '-U', 'mallory' ]);
$response = ask($stranger, 'x', 1);
is("$response->{status} $response->{content}", '401 {"error":"wrong_project"}', 'a stranger\'s key');

# Each holder's limit: 429, which it is, and when to come again.
my %limit = (
	key => "'tokens', 100, '1 minute', key => auth.apikey_id('$tight')",
	project => "'requests', 2, '1 hour', path => 'acme/payments'",
	organization => "'tokens', 50, '1 hour', path => 'acme'");
my %told = (
	key => '"key-tokens-60";q=100;qu="tokens";w=60',
	project => '"project-requests-3600";q=2;w=3600',
	organization => '"organization-tokens-3600";q=50;qu="tokens";w=3600');
for my $holder (qw(key project organization))
{
	my $id = sql("SELECT auth.apikey_limit_set($limit{$holder})");
	my ($status, @all) = ('');
	for (1 .. 3) { $response = ask($tight, 'say', $holder eq 'key' ? 60 : 30); push @all, $response->{status}; last if $response->{status} != 200 }
	is($all[0] . ' ' . $all[-1], '200 429', "$holder: passes, and then does not");
	my $body = json_body($response);
	is("$body->{error} $body->{holder} $body->{unit}", ($holder eq 'project' ? 'rate_limited project requests' : "rate_limited $holder tokens"), 'whose limit it is');
	is($response->{headers}{'ratelimit-policy'}, $told{$holder}, 'its policy');
	like($response->{headers}{ratelimit}, qr/^"$holder-\w+-\d+";r=\d+;t=\d+$/, 'what is left of it');
	like($response->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'and when to come again');
	sql("SELECT auth.apikey_limit_drop('$id')");
}
# All are told of where all pass.
my @ids = map { sql("SELECT auth.apikey_limit_set($_)") } "'tokens', 100000, '1 minute', key => auth.apikey_id('$tight')", "'requests', 1000, '1 hour', path => 'acme/payments'", "'tokens', 100000, '1 hour', path => 'acme'";
$response = ask($tight, 'say', 10);
is(join(' ', map { /^"([a-z-]+)-\d/ } split /, /, $response->{headers}{'ratelimit-policy'}), 'key-tokens project-requests organization-tokens organization-tokens-quota', 'of several limits all are told');
is(join(' ', map { /;r=(\d+)/ } split /, /, $response->{headers}{ratelimit} =~ s/, "organization-tokens-quota.*//r), '99989 999 99989', 'with what is left');
sql(map { "SELECT auth.apikey_limit_drop('$_')" } @ids);

# Fifty clients, some of whom hang up in the middle, while the server is taken
# away for a moment: the sum is exact, to the token.
sub totals { return json_body(request($model, 'GET', '/totals')) }
my $output = '';
my $load = IPC::Run::start([ $nodejs, 'load.js', "http://127.0.0.1:$gateway->{port}", 50, 6, @keys ], '<', \undef, '>', \$output, '2>&1', init => sub { chdir $dir or die $! });
$server->poll_query_until('postgres', 'SELECT count(*) > 60 FROM api.call');
sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'web'});
$load->finish;
my $result = decode_json($output);
note($output);
cmp_ok($result->{ended}{200}, '>', 100, 'fifty clients');
cmp_ok($result->{ended}{'hung up'}, '>', 50, 'of whom many hang up');
my $calls = "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) FROM api.call";
sub wait_settled
{
	for (1 .. 5 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if totals()->{open} == 0 && sql($calls) == totals()->{tokens};
		select(undef, undef, undef, 0.2);
	}
}
wait_settled();
my $tokens = totals()->{tokens};
is(sql($calls), $tokens, 'what the model gave is what is in the calls');
$left_before = 10000000;
spent_is($tokens, 'and what was spent of the budget, to the token');
sql('SELECT auth.apikey_flush()');
is(sql("SELECT sum((spent->>'tokens')::bigint) FROM auth.apikey_usage_history"), $tokens, 'and what the history says');
is(sql('SELECT count(*), count(DISTINCT id) FROM api.call WHERE completion_tokens > reserved'), '0|0', 'no call took more than it had reserved');
is(sql("SELECT count(*) FROM auth.apikey_events WHERE event = 'overdrawn'"), '0', 'nothing was dropped');

# A gateway that is told to end charges first.
my $slow = IPC::Run::start([ $nodejs, 'load.js', "http://127.0.0.1:$gateway->{port}", 8, 1, @keys ], '<', \undef, '>', \my $last, '2>&1', init => sub { chdir $dir or die $! });
my $before = totals()->{calls};
for (1 .. 600) { last if totals()->{calls} > $before + 2; select(undef, undef, undef, 0.05) }
kill 'TERM', $gateway->{run}{KIDS}[0]{PID};
$slow->finish;
wait_settled();
is(sql($calls), totals()->{tokens}, 'a gateway that ends has charged all');
$left_before = 10000000;
spent_is(totals()->{tokens}, 'to the token');

my $told = stop_program($gateway);
note($told);
my $log = $told . stop_program($model) . slurp_file($server->logfile);
is(scalar(() = $log =~ /\Q$_\E/g), 0, 'no key in a log') for map { substr $_, -39 } @keys, $tight;
$server->stop;
done_testing();
