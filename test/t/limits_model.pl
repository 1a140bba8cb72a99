# Limits that many sessions share: what a model in a table says was spent is
# what was spent, to the token, whatever was rolled back; and never more than
# there was, whatever crashed.  With APIKEY_TEST_LONG in the environment, 100,000
# operations and more kills; usually 4,800.
use strict;
use warnings;
use lib 'test';
use Crash;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $long = $ENV{APIKEY_TEST_LONG};
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1s'
apikey.credits_lease = 500
max_connections = 60
restart_after_crash = on
deadlock_timeout = '100ms'
fsync = on
});
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION apikey CASCADE;
	SELECT apikey_organization_create('acme');
	SELECT apikey_project_create('acme/pay'), apikey_project_create('acme/other');
	CREATE TABLE keys AS SELECT i AS n,
		apikey_create('key-' || i, CASE WHEN i < 3 THEN 'acme/pay' ELSE 'acme/other' END, subject => 's' || i % 2) AS key
		FROM generate_series(1, 4) i;
	CREATE TABLE log (key int, tokens bigint);
	CREATE FUNCTION verify(n int, amount bigint) RETURNS bool LANGUAGE plpgsql AS $$
	DECLARE
		passed bool;
	BEGIN
		SELECT valid INTO passed FROM keys, apikey_verify(key, project => 'acme', costs => jsonb_build_object('tokens', amount)) WHERE keys.n = verify.n;
		IF passed THEN
			INSERT INTO log VALUES (n, amount);
		END IF;
		RETURN passed;
	END $$;
	-- Where the worker is late, nothing is charged.
	CREATE FUNCTION charge(n int, amount bigint) RETURNS bool LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM apikey_charge(apikey_id(key), jsonb_build_object('tokens', amount), 'acme') FROM keys WHERE keys.n = charge.n;
		INSERT INTO log VALUES (n, amount);
		RETURN true;
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		RETURN false;
	END $$});
sub sql { return $node->safe_psql('postgres', join ';', @_) }
sub limit { return sql("SELECT apikey_limit_set($_[0])") }
my %limits = (
	'true' => limit("'tokens', 1000000000, '1 year', 'quota', path => 'acme'"),
	'key < 3' => limit("'tokens', 1000000000, NULL, 'balance', path => 'acme/pay'"),
	'key % 2 = 0' => limit("'tokens', 1000000000, '1 month', 'quota', path => 'acme', subject => 's0'"),
	'key = 1' => limit("'tokens', 1000000000, '1 year', 'quota', key => (SELECT apikey_id(key) FROM keys WHERE n = 1)"));
my %id = reverse %limits;

my $dir = PostgreSQL::Test::Utils::tempdir();
sub script { my ($name, $text) = @_; append_to_file("$dir/$name", "\\set n random(1, 4)\n\\set amount random(1, 90)\n$text"); return ('-f', "$dir/$name") }
my @mixture = (
	script('verify', "SELECT verify(:n, :amount);\n"),
	script('charge', "SELECT charge(:n, :amount);\n"),
	script('large', "SELECT charge(:n, 100 * :amount);\n"),
	# It gives back what it has spent: the next may not have it first.
	script('back', "SELECT charge(:n, :amount) AS charged \\gset\n\\if :charged\nSELECT charge(:n, -:amount);\n\\endif\n"),
	script('undone', "BEGIN;\nSELECT verify(:n, :amount);\nSELECT charge(:n, :amount);\nSELECT charge(:n, -:amount);\nROLLBACK;\n"),
	script('partly', "BEGIN;\nSELECT verify(:n, :amount);\nSAVEPOINT a;\nSELECT charge(:n, 3 * :amount);\nSELECT verify(:n, 2 * :amount);\nROLLBACK TO a;\nSELECT verify(:n, :amount);\nCOMMIT;\n"));

sub balanced
{
	my ($when, $operator) = @_;
	sql('SELECT apikey_flush()');
	for my $holder (sort keys %limits)
	{
		my ($spent, $left) = split /\|/, sql("SELECT (SELECT coalesce(sum(tokens), 0) FROM log WHERE $holder), remaining FROM apikey_limits WHERE id = '$limits{$holder}'");
		cmp_ok(1000000000 - $left, $operator, $spent, "$when, of $holder");
	}
}
$node->command_ok([ 'pgbench', '-n', '-c', '16', '-j', '2', '-t', $long ? 6250 : 300, @mixture, 'postgres' ], 'sixteen sessions');
balanced('to the token', '==');
cmp_ok(sql('SELECT count(*) FROM log'), '>', 3000, 'a mixture');

# Limits are set, changed and dropped meanwhile.
my $bench = IPC::Run::start([ 'pgbench', '-n', '-c', '8', '-j', '2', '-T', $long ? 60 : 6, '-h', $node->host, '-p', $node->port, @mixture, 'postgres' ], '>', \my $out, '2>', \my $err);
for my $i (1 .. ($long ? 200 : 20))
{
	my $more = limit("'tokens', " . 1000 * $i . ", '1 hour', 'quota', path => 'acme/other'");
	limit("'tokens', $i, '1 minute', path => 'acme/other'");
	sql("UPDATE apikey_limits SET amount = 1000000001 WHERE id = '$limits{true}'", "UPDATE apikey_limits SET amount = 1000000000 WHERE id = '$limits{true}'");
	sql("SELECT apikey_limit_drop(id) FROM apikey_limits WHERE path = 'acme/other'");
}
$bench->finish;
is($err =~ /ERROR|abort/ ? $err : '', '', 'no session fails');
# What a change of the amount finds on its way in open transactions may be lost
# to the customer, never to who has granted.
balanced('while limits change, nothing is spent twice', '>=');

# kill -9, again and again.
my $lost = 0;
for my $round (1 .. ($long ? 10 : 3))
{
	my $run = IPC::Run::start([ 'pgbench', '-n', '-c', '16', '-j', '2', '-T', '30', '-h', $node->host, '-p', $node->port, @mixture, 'postgres' ], '>', \my $o, '2>', \my $e);
	sleep 2;
	kill_postmaster($node);
	$run->finish;
	start_again($node);
	balanced("killed, $round", '>=');
}

# Of a budget that is not enough no more passes than there was.
my $tight = limit("'tokens', 5000, '1 year', 'quota', path => 'acme/pay'");
sql('TRUNCATE log');
$node->command_ok([ 'pgbench', '-n', '-c', '16', '-j', '2', '-t', '60', '-f', "$dir/verify", 'postgres' ], 'sixteen sessions on a tight budget');
my $passed = sql('SELECT sum(tokens) FROM log WHERE key < 3');
cmp_ok($passed, '<=', 5000, 'no more than there was');
cmp_ok($passed, '>', 4900, 'and nearly all');
sql('SELECT apikey_flush()');
is(sql("SELECT remaining FROM apikey_limits WHERE id = '$tight'"), 5000 - $passed, 'to the token');
# A verification writes nothing.
my $free = limit("'tokens', 1000000, '1 day', path => 'acme'");
sql("SELECT apikey_limit_drop('$tight')");
my $before = $node->safe_psql('postgres', q{SELECT count(*) FROM keys, LATERAL apikey_verify(key, project => 'acme', costs => '{"tokens": 1}') v WHERE n = 2 AND v.valid; SELECT pg_current_wal_insert_lsn()});
my $wal = $node->safe_psql('postgres', q{
	SELECT pg_current_wal_insert_lsn() AS a \gset
	BEGIN READ ONLY;
	SELECT valid FROM apikey_verify((SELECT key FROM keys WHERE n = 2), project => 'acme', costs => '{"tokens": 1}') \g /dev/null
	SELECT apikey_charge(apikey_id(key), '{"tokens": 5}', 'acme') FROM keys WHERE n = 2 \g /dev/null
	COMMIT;
	SELECT txid_current_if_assigned() IS NULL});
is($wal, 't', 'a verification and a charge write nothing');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'no deadlock in all that');
$node->stop;
done_testing();
