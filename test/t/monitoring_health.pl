# apikey_health() and the views of monitoring where the library is preloaded:
# the worker, memory, notices; and counting the keys of peppers where there are
# many.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'apikey'
	apikey.flush_interval = '200ms'
	apikey.max_tracked_keys = 16
	apikey.notify = on
	autovacuum = off});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sub health { my ($name) = @_; return sql("SELECT severity, value FROM apikey_health() WHERE name = '$name'") }
sql('CREATE EXTENSION apikey CASCADE');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM apikey_health() WHERE severity <> 'ok'}), 'nothing is wrong');
is(health('preloaded'), 'ok|yes', 'preloaded');
is(health('worker'), 'ok|running', 'the worker');

# Every code, zeros included.
my $key = sql(q{SELECT apikey_create('one', credits => 10)});
sql("SELECT apikey_check('$key')");
sql("SELECT code FROM apikey_verify('$key')") for 1 .. 2;
is(sql('SELECT count(*), count(*) FILTER (WHERE verifications = 0) FROM apikey_stats_codes'), '17|16', 'every code');
is(sql(q{SELECT verifications FROM apikey_stats_codes WHERE code = 'valid'}), '3', 'valid');
like(health('leases'), qr/^ok\|1 leases, [1-7] credits$/, 'a lease is out');
like(health('slots'), qr/^ok\|1 of 16, 1 of this database$/, 'slots');
ok($node->poll_query_until('postgres', q{SELECT value ~ '^\d{4}-' FROM apikey_health() WHERE name = 'flush'}), 'the last flush');

# No room left, no notice told, no worker to be had.
sql(q{SELECT code FROM generate_series(1, 16) i, apikey_create('limited-' || i, rate_limit => 1, rate_window => '1 hour') k, apikey_verify(k)});
like(health('slots'), qr/^warning\|16 of 16/, 'full');
sql(q{DO $$ BEGIN FOR i IN 1 .. 5000 LOOP PERFORM apikey_disable(apikey_id('} . $key . q{')); PERFORM apikey_enable(apikey_id('} . $key . q{')); END LOOP; END $$});
like(health('notices'), qr/^warning\|\d+ waiting, 5904 dropped$/, 'more than the queue holds');
my $locked = $node->background_psql('postgres');
$locked->query_safe('BEGIN; LOCK TABLE apikey_usage');
my $asked = time;
is(sql(q{SELECT name, severity, value FROM apikey_health() WHERE name = 'triggers'}), 'triggers|warning|a table is locked', 'nor waits for who has a table locked');
cmp_ok(time - $asked, '<', 5, 'for long');
$locked->query_safe('LOCK TABLE apikey_key, apikey_digest, apikey_import, apikey_server, apikey_project');
sql('CREATE TABLE done (round integer)');
for my $round (1 .. 3)
{
	my ($code, undef, $err) = $node->psql('postgres', qq{
		SET statement_timeout = '250ms';
		DO \$\$ BEGIN
			INSERT INTO done VALUES (-$round);
			BEGIN
				INSERT INTO done VALUES ($round);
				LOOP PERFORM FROM apikey_health(); END LOOP;
			EXCEPTION WHEN query_canceled THEN NULL;
			END;
		END \$\$}, on_error_stop => 0);
	is("$code|$err", '0|', "a cancel that is caught ends the call alone, $round");
}
is(sql('SELECT string_agg(round::text, chr(32) ORDER BY round DESC) FROM done'), '-1 -2 -3', 'with what its block had done, no more');
$locked->query_safe('COMMIT');
$locked->quit;

# Few keys are counted each time; many once, and by the worker from then on.
sql(q{
	INSERT INTO apikey_digest SELECT gen_random_uuid(), sha256(i::text::bytea), 0 FROM generate_series(1, 300000) i});
my $first = sql(q{SELECT keys FROM apikey_peppers WHERE current});
is($first, '300017', 'counted');
# The quickest of some, as others have the machine at times.
sub quickest
{
	my ($query) = @_;
	my ($took) = sort { $a <=> $b } map { sql("EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) $query") =~ /Execution Time: ([\d.]+) ms/ } 1 .. 10;
	return $took;
}
my $took = quickest('SELECT * FROM apikey_peppers');
cmp_ok($took, '<', 5, "300,000 keys are not counted again ($took ms)");
$took = quickest('SELECT * FROM apikey_health()');
cmp_ok($took, '<', 25, "nor by apikey_health() ($took ms)");

# Nor are those gone through that somebody is making, in the order of their owners.
my $making = $node->background_psql('postgres');
sql('CREATE ROLE later');
$making->query_safe(q{BEGIN; INSERT INTO apikey_key (id, owner, disabled, created_at, owner_name, prefix, last_four, name, scopes, metadata)
	SELECT gen_random_uuid(), 'later'::regrole, false, now(), 'later', 'ak', 'abcd', 'key-' || i, '{}', '{}' FROM generate_series(1, 100000) i});
is(health('roles'), 'ok|not looked at', 'their roles are not looked for');
$took = quickest('SELECT * FROM apikey_health()');
cmp_ok($took, '<', 100, "however many they are ($took ms)");
$making->query_safe('ROLLBACK');
$making->quit;
sql(q{DELETE FROM apikey_digest WHERE id IN (SELECT id FROM apikey_digest LIMIT 100000); UPDATE apikey_digest SET pepper = 7 WHERE id IN (SELECT id FROM apikey_digest LIMIT 10)});
is(sql(q{SELECT keys FROM apikey_peppers WHERE current}), $first, 'the last count is told');
sql('SELECT apikey_flush()');
is(sql(q{SELECT * FROM apikey_peppers}), "00000000||t|200007\n00000007||f|10", 'apikey_flush() counts anew');
like(health('peppers'), qr/^critical\|10 keys without theirs/, 'keys whose pepper is gone');
is(sql(q{SELECT peppers FROM apikey_stats}), '{"00000000": 200007, "00000007": 10}', 'apikey_stats tells the same');

# On a standby.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', q{SELECT keys FROM apikey_peppers WHERE current}), '200007', 'counted there');
is($standby->safe_psql('postgres', q{SELECT name, severity FROM apikey_health() WHERE severity <> 'ok'}), 'peppers|critical', 'a standby is no worse');
is($standby->safe_psql('postgres', q{SELECT value FROM apikey_health() WHERE name = 'replay'}), '0 s behind', 'and not behind');
$standby->stop;
$node->stop;

# Where no worker process is to be had.
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->start;
ok($node->poll_query_until('postgres', q{SELECT severity = 'critical' AND value = 'not running' AND hint ~ 'max_worker_processes' FROM apikey_health() WHERE name = 'worker'}), 'no worker process');
$node->stop;
done_testing();
