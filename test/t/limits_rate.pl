# Rate limits: exactly so many pass, whoever asks, and nothing else spends them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.max_tracked_keys = 16
apikey.flush_interval = '1h'
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
sub sql { return $node->safe_psql('postgres', @_) }
sub create
{
	my ($name, $more) = @_;
	return sql("SELECT apikey_create('$name', scopes => '{a}', $more)");
}

# One session after the other.
my $key = create('burst', "rate_limit => 5, rate_window => '1 hour'");
is(sql("SELECT rate_limit, rate_window FROM apikeys"), '5|01:00:00', 'the list shows it');
is( sql("SELECT code, rate_remaining, rate_reset_at IS NOT NULL, detail FROM apikey_verify('$key')"),
	'valid|4|t|{"rate_limit": 5, "rate_window_seconds": 3600}', 'what is told of it');
is( sql(join ';', map { "SELECT code, rate_remaining FROM apikey_verify('$key')" } 1 .. 6),
	"valid|3\nvalid|2\nvalid|1\nvalid|0\nrate_limited|0\nrate_limited|0", 'a burst of five');
is( sql("SELECT extract(epoch FROM rate_reset_at - clock_timestamp())::int BETWEEN 700 AND 720 FROM apikey_verify('$key')"),
	't', 'the next one passes a fifth of the window later');
is(sql("SELECT apikey_check('$key')"), 'f', 'apikey_check is limited too');
is(sql("SELECT code, rate_remaining FROM apikey_verify('$key', cost => 0)"), 'valid|0', 'asking costs nothing');
is(sql("SELECT use_count, denied_count FROM apikeys"), '5|4', 'uses and denials');

# The state outlives a clean restart.
$node->restart;
is(sql("SELECT code FROM apikey_verify('$key')"), 'rate_limited', 'after a restart');
# Changing the limit gives nothing back; taking it away lets all pass.
sql("UPDATE apikeys SET rate_limit = 7");
is(sql("SELECT code, rate_remaining FROM apikey_verify('$key')"), 'rate_limited|0', 'a limit that was raised');
sql("UPDATE apikeys SET rate_limit = 5, rate_window = '1 second'");
is(sql("SELECT code, rate_remaining FROM apikey_verify('$key')"), 'rate_limited|0', 'a window that has become shorter');
ok($node->poll_query_until('postgres', "SELECT rate_remaining = 5 FROM apikey_verify('$key', cost => 0)"), "waited");
pass('a shorter window is back sooner');
sql("UPDATE apikeys SET rate_limit = NULL");
is(sql("SELECT code, rate_remaining, detail FROM apikey_verify('$key')"), 'valid||', 'a limit that was taken away');

# Rotating gives no fresh window.
my $turned = create('turned', "rate_limit => 3, rate_window => '1 hour'");
is(sql(join ';', map { "SELECT code FROM apikey_verify('$turned')" } 1 .. 2), "valid\nvalid", 'two of three');
my $next = sql("SELECT apikey_rotate(apikey_id('$turned'), '1 hour')");
is(sql(join ';', map { "SELECT code, rate_remaining FROM apikey_verify('$next')" } 1 .. 2), "valid|0\nrate_limited|0", 'the successor goes on');
$next = sql("SELECT apikey_rotate(apikey_id('$next'))");
is(sql("SELECT code FROM apikey_verify('$next')"), 'rate_limited', 'and the next one');

# What is refused for any other reason spends nothing.
my $refused = create('refused', "rate_limit => 2, rate_window => '1 hour', allowed_ips => '{10.0.0.0/8}'");
is( sql(qq{SELECT code FROM apikey_verify('$refused');
		SELECT code FROM apikey_verify('$refused', client_addr => '10.0.0.1', scopes => '{b}');
		SELECT code FROM apikey_verify('$refused', client_addr => '10.0.0.1', project => 'x');
		SELECT code FROM apikey_verify('$refused', client_addr => '10.0.0.1', min_role => 'owner');
		SELECT code, detail FROM apikey_verify('$refused', client_addr => '10.0.0.1', scopes => '{b}');
		SELECT code, rate_remaining FROM apikey_verify('$refused', client_addr => '10.0.0.1', scopes => '{a}')}),
	qq{ip_denied\ninsufficient_scope\nwrong_project\ninsufficient_role
insufficient_scope|{"rate_limit": 2, "missing_scopes": ["b"], "rate_window_seconds": 3600}\nvalid|1}, 'other refusals are free');

# Costs.
my $cost = create('cost', "rate_limit => 10, rate_window => '1 hour'");
is( sql(join ';', map { "SELECT code, rate_remaining FROM apikey_verify('$cost', cost => $_)" } 7, 4, 3, 0, 1),
	"valid|3\nrate_limited|3\nvalid|0\nvalid|0\nrate_limited|0", 'costs are taken whole or not at all');
is(sql("SELECT code, rate_reset_at IS NULL FROM apikey_verify('$cost', cost => 11)"), 'rate_limited|t', 'a cost above the limit never passes');

# It comes back with time.
my $fast = create('fast', "rate_limit => 10, rate_window => '1 second'");
is(sql("SELECT count(*) FROM generate_series(1, 30) i, LATERAL (SELECT code FROM apikey_verify(CASE WHEN i > 0 THEN '$fast' END)) v WHERE code = 'valid'") >= 10 ? 't' : 'f', 't', 'at least the limit passes');
ok($node->poll_query_until('postgres', "SELECT rate_remaining = 10 FROM apikey_verify('$fast', cost => 0)"), "waited");
is(sql("SELECT rate_remaining FROM apikey_verify('$fast')"), '9', 'all of it is back');

# Exactly the limit, from eight sessions at once, where it does not divide the
# window; tokens are not given back on rollback.
for my $limit (1, 7, 1000)
{
	my $many = create("many-$limit", "rate_limit => $limit, rate_window => '31 days'");
	my $script = PostgreSQL::Test::Utils::tempdir() . "/limit-$limit.sql";
	append_to_file($script, "BEGIN;\nSELECT apikey_check('$many');\nROLLBACK;\n");
	$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '200', '-f', $script, 'postgres' ], "eight sessions, $limit");
	is(sql("SELECT use_count, denied_count FROM apikeys WHERE name = 'many-$limit'"),
		"$limit|" . (1600 - $limit), "exactly $limit pass");
}

# Works where nothing can be written.
my $read = create('read', "rate_limit => 1, rate_window => '1 hour'");
is(sql("BEGIN READ ONLY; SELECT code FROM apikey_verify('$read'); SELECT code FROM apikey_verify('$read'); COMMIT"), "valid\nrate_limited", 'read-only');

# No room: a key without a limit passes, one with a limit cannot be decided;
# nobody's limiter is reset to make room.
sql("CREATE TABLE fill AS SELECT apikey_create('fill-' || i) AS key FROM generate_series(1, 30) i");
is(sql('SELECT count(*) FROM fill WHERE apikey_check(key)'), '30', 'keys without a limit pass');
my $late = create('late', "rate_limit => 1, rate_window => '1 hour'");
is(sql("SELECT code, rate_remaining FROM apikey_verify('$late')"), 'unavailable|', 'no room for a limiter');
is(sql("SELECT code FROM apikey_verify('$read')"), 'rate_limited', 'a spent limit stays spent');
like(slurp_file($node->logfile), qr/WARNING:  some API keys cannot be verified.*\n.*DETAIL:  There is no room in shared memory for the rate limit of API key [0-9a-f-]{36}/, 'the log says why');

# Bad values.
for (["rate_limit => 0", '22023'], ["rate_limit => -1", '22023'], ["rate_limit => 1, rate_window => '0.9 second'", '22023'],
	["rate_limit => 1, rate_window => '32 days'", '22023'], ["rate_limit => 1, rate_window => '1 month'", '22023'],
	["rate_limit => 1, rate_window => NULL", '22004'], ["rate_window => '-1 day'", '22023'],
	["rate_limit => 2147483647, rate_window => '1 second'", ''], ["rate_limit => 1, rate_window => '30 days 24 hours'", ''])
{
	my ($more, $state) = @$_;
	my ($result, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT length(apikey_create('bad-' || round(random() * 1e9), $more))");
	is($state eq '' ? ($stdout > 60 ? '' : $stderr) : ($stderr =~ /ERROR:  (\w+)/)[0], $state, "$more");
}
# More tokens than a window has nanoseconds, or nearly: none comes back early.
$node->append_conf('postgresql.conf', 'apikey.max_tracked_keys = 100');
$node->restart;
my $most = create('most', "rate_limit => 2147483647, rate_window => '1 second'");
is(sql("SELECT code, rate_remaining FROM apikey_verify('$most')"), 'valid|2147483646', 'the most there can be');
my $many = create('many', "rate_limit => 600000000, rate_window => '1 second'");
is(sql("SELECT code FROM apikey_verify('$many', cost => 600000000);
	SELECT rate_reset_at - clock_timestamp() BETWEEN '0.9 s' AND '1.3 s' FROM apikey_verify('$many', cost => 0)"),
	"valid\nt", 'all is back when the window has gone');

# Under load no more pass than were there and have come back meanwhile.
my $loaded = create('loaded', "rate_limit => 3000, rate_window => '3 seconds'");
my $script = PostgreSQL::Test::Utils::tempdir() . '/check.sql';
append_to_file($script, "SELECT apikey_check('$loaded');\n");
my $began = time;
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-T', '3', '-f', $script, 'postgres' ], 'eight sessions');
my ($passed) = sql("SELECT use_count FROM apikeys WHERE name = 'loaded'");
cmp_ok($passed, '<=', 3001 + 1000 * (time - $began), 'not too many passed');
cmp_ok($passed, '>=', 3000, 'and not too few');
$node->stop;

# Without the library preloaded.
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
my ($result, $stdout, $stderr) = $plain->psql('postgres', "SELECT apikey_create('limited', rate_limit => 1)");
like($stderr, qr/a rate limit needs the library "apikey" to be preloaded\nHINT:  Add it to shared_preload_libraries/, 'creating is refused');
my $limited = $plain->safe_psql('postgres', q{SELECT apikey_create('limited')});
$plain->safe_psql('postgres', 'UPDATE apikey_key SET rate_limit = 5');
$plain->safe_psql('postgres', "UPDATE apikeys SET description = 'else', rate_limit = 5");
is($plain->safe_psql('postgres', 'SELECT description FROM apikeys'), 'else', 'what else there is can be changed');
($result, $stdout, $stderr) = $plain->psql('postgres', 'UPDATE apikeys SET rate_limit = 6');
like($stderr, qr/a rate limit needs the library/, 'setting another is refused');
is($plain->safe_psql('postgres', "SELECT code, valid FROM apikey_verify('$limited'); SELECT apikey_check('$limited')"), "unavailable|f\nf", 'verifying is unavailable');
like(slurp_file($plain->logfile), qr/WARNING:  some API keys cannot be verified.*\n.*DETAIL:  API key [0-9a-f-]{36} has a rate limit, and the library "apikey" is not in/, 'the log says why');
$plain->stop;
done_testing();
