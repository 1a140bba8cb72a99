# examples/node: an HTTP API behind keys.
use strict;
use warnings;
use lib 'test';
use Example;
use PostgreSQL::Test::Utils;
use Test::More;

my $nodejs = find_program('node', 'nodejs');
my $dir = install_packages('examples/node', '--omit=dev');
my $pepper = PostgreSQL::Test::Utils::tempdir() . '/pepper';
append_to_file($pepper, 'p' x 40);
chmod 0600, $pepper;
my $server = protected_server("log_statement = 'all'", "apikey.pepper_file = '$pepper'");
my $reader = create_key($server, q{'reader', 'acme/payments', scopes => '{invoices:read}'});
my $writer = create_key($server, q{'writer', 'acme/payments', scopes => '{invoices:write}'});
my $other = create_key($server, q{'other', 'acme/website', scopes => '{invoices:*}'});
my $limited = create_key($server, q{'limited', 'acme/payments', scopes => '{*}', rate_limit => 3, rate_window => '1 hour'});
my $elsewhere = create_key($server, q{'elsewhere', 'acme/payments', scopes => '{*}', allowed_ips => '{192.0.2.0/24}'});
my $local = create_key($server, q{'local', 'acme/payments', scopes => '{*}', allowed_ips => '{127.0.0.0/8}'});
$server->safe_psql('postgres', 'CREATE ROLE mallory LOGIN; GRANT USAGE ON SCHEMA auth TO mallory');
my $minted = $server->safe_psql('postgres', q{SELECT auth.apikey_create('mine', scopes => '{*}', subject => 'Ada')},
	extra_params => [ '-U', 'mallory' ]);
my $api = start_program($dir, $nodejs, '--max-http-header-size=200000', 'server.js');

sub get { return request($api, 'GET', $_[0] // '/invoices', $_[1]) }
sub status_is
{
	my ($headers, $status, $code, $name) = @_;
	my $response = get('/invoices', $headers);
	is("$response->{status} $response->{content}", qq/$status {"error":"$code"}/, $name);
	return $response;
}

# Who may.
my $response = get('/invoices', { 'x-api-key' => $reader });
is($response->{status}, 200, 'a key opens');
is_deeply([ map { $_->{customer} } @{ json_body($response) } ], [qw(Ada Grace)], "the rows of its project");
is(get('/invoices', { authorization => "Bearer $reader" })->{status}, 200, 'as a Bearer token');
is(get('/invoices', { 'x-api-key' => "  $reader " })->{status}, 200, 'with blanks around it, which HTTP drops');
is(get('/invoices', { 'x-api-key' => '', authorization => "bearer $reader" })->{status}, 200, 'beside an empty header');
is_deeply([ map { $_->{customer} } @{ json_body(get('/invoices', { 'x-api-key' => $other })) } ], ['Linus'], "another's rows");
is(json_body(get('/whoami', { 'x-api-key' => $reader }))->{name}, 'reader', 'a route for any key of acme');
is(get('/invoices', { 'x-api-key' => $local })->{status}, 200, 'from an address that is allowed');

# Who may not.
$response = status_is({}, 401, 'missing', 'no key');
is($response->{headers}{'www-authenticate'}, 'Bearer', 'and how to bring one');
status_is({ 'x-api-key' => '' }, 401, 'missing', 'an empty key');
status_is({ 'x-api-key' => 'nonsense' }, 401, 'malformed', 'nonsense');
status_is({ authorization => 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln' }, 401, 'malformed', 'a JWT');
status_is({ authorization => "Basic $reader" }, 401, 'missing', 'another scheme');
status_is({ 'x-api-key' => [ $reader, $reader ] }, 401, 'malformed', 'two headers');
status_is({ 'x-api-key' => substr($reader, 0, -1) }, 401, 'malformed', 'a key cut short');
status_is({ 'x-api-key' => substr($reader, 0, -39) . 'x' x 39 }, 401, 'not_found', 'a forged secret');
status_is({ 'x-api-key' => $minted }, 401, 'wrong_project', "a user's own key with every scope");
status_is({ 'x-api-key' => $elsewhere }, 401, 'ip_denied', 'from another address');
status_is({ 'x-api-key' => $writer }, 403, 'insufficient_scope', 'without the scope');
status_is({ 'x-api-key' => 'x' x 100_000 }, 401, 'malformed', 'a header of 100 kB');
is(get('/nothing', { 'x-api-key' => $reader })->{status}, 404, 'no such route');

# Writing.
sub post { return request($api, 'POST', '/invoices', { 'x-api-key' => $_[0], 'content-type' => 'application/json' }, $_[1])->{status} }
is(post($reader, '{"customer": "Eve", "amount": 1}'), 403, 'a reader does not write');
is(post($writer, '{"customer": "Barbara", "amount": 5}'), 201, 'a writer does');
is(post($writer, '{"customer": "Barbara", "amount": "much"}'), 400, 'not what is no number');
is(post($writer, '{'), 400, 'nor what is no JSON');
is_deeply([ map { $_->{customer} } @{ json_body(get('/invoices', { 'x-api-key' => $reader })) } ], [qw(Ada Grace Barbara)], 'into its own project');

# Limits.
my @left = map { get('/invoices', { 'x-api-key' => $limited })->{headers} } 1 .. 3;
is_deeply([ map { ($_->{'ratelimit-policy'}, $_->{ratelimit} =~ /^"key-requests-3600";r=(\d+);t=[1-9]\d*$/) } @left ],
	[ map { ('"key-requests-3600";q=3;w=3600', $_) } 2, 1, 0 ], 'what is left is told');
$response = status_is({ 'x-api-key' => $limited }, 429, 'rate_limited', 'over the limit');
like($response->{headers}{ratelimit}, qr/^"key-requests-3600";r=0;t=\d+$/, 'with nothing left');
like($response->{headers}{'retry-after'}, qr/^(11\d\d|1200)$/, 'and when to come again');
ok(!exists get('/invoices', { 'x-api-key' => $reader })->{headers}{ratelimit}, 'no limit, no header');

# Of several limits all are told; where one refuses, that.
my $several = create_key($server, q{'several', 'acme/payments', scopes => '{*}'});
$server->safe_psql('postgres', "SELECT auth.apikey_limit_set($_)") for "'requests', 2, '1 hour', key => auth.apikey_id('$several')",
	"'requests', 100, '1 minute', path => 'acme/payments'", "'requests', 1000, '1 day', 'quota', path => 'acme'";
$response = get('/invoices', { 'x-api-key' => $several });
is($response->{headers}{'ratelimit-policy'}, '"key-requests-3600";q=2;w=3600, "project-requests-60";q=100;w=60, "organization-requests-quota-86400";q=1000;w=86400', 'several limits');
like($response->{headers}{ratelimit}, qr/^"key-requests-3600";r=1;t=\d+, "project-requests-60";r=99;t=1, "organization-requests-quota-86400";r=999;t=\d+$/, 'and what is left');
get('/invoices', { 'x-api-key' => $several });
$response = status_is({ 'x-api-key' => $several }, 429, 'rate_limited', 'one of them refuses');
is($response->{headers}{'ratelimit-policy'}, '"key-requests-3600";q=2;w=3600', 'and is told');
$server->safe_psql('postgres', 'SELECT auth.apikey_limit_drop(id) FROM auth.apikey_limits');

# Tokens.
my $token = $server->safe_psql('postgres', "SELECT auth.apikey_token_create('$reader')");
is(get('/invoices', { 'x-api-key' => $token })->{status}, 200, 'a token of a key');
is(get('/invoices', { authorization => "Bearer $token" })->{status}, 200, 'as a Bearer token');

# At once.
$server->safe_psql('postgres', q{SELECT auth.apikey_revoke(id) FROM auth.apikeys WHERE name = 'reader'});
status_is({ 'x-api-key' => $reader }, 401, 'revoked', 'revoked');
$server->safe_psql('postgres', q{ALTER SYSTEM SET apikey.pepper_file = '/nonexistent'});
$server->reload;
$server->poll_query_until('postgres', q{SELECT current_setting('apikey.pepper_file') = '/nonexistent'});
my $until = time + $PostgreSQL::Test::Utils::timeout_default;
do { $response = get('/invoices', { 'x-api-key' => $writer }) } until $response->{status} == 503 || time > $until;
is("$response->{status} $response->{content}", '503 {"error":"unavailable"}', 'no decision');
is($response->{headers}{'retry-after'}, 5, 'for now');
$server->safe_psql('postgres', 'ALTER SYSTEM RESET apikey.pepper_file');
$server->reload;

# Nothing that anybody can read has a key in it.
my $log = stop_program($api) . slurp_file($server->logfile);
is(scalar(() = $log =~ /\Q$_\E/g), 0, 'not in a log') for map { substr $_, -39 } $reader, $writer, $other, $limited, $minted;
$server->stop;
done_testing();
