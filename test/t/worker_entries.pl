# The worker's steps are short whatever stands in an index: rows that somebody has made
# and removed, whose entries stay for as long as an older snapshot could see them.
# And what cannot be done in one row holds up nothing behind it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# To look at a row takes a while: few of the blocks are in memory.
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
shared_buffers = '1MB'
max_connections = 20
autovacuum = off
fsync = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
# What the worker has counted is told when it ends.
sub quiet { return $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'apikey worker' AND datname = 'postgres'}) }
sub steps
{
	quiet();
	my $before = sql(q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'});
	sql('SELECT apikey_flush()');
	quiet();
	return sql(q{SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'}) - $before;
}
sub read_of { quiet(); return sql("SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_all_indexes WHERE indexrelname = '$_[0]'") }

sql('CREATE EXTENSION apikey CASCADE');
sql('SELECT apikey_flush()');
my $usual = steps();
note "$usual steps with nothing to do";
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT count(*) FROM apikey_key');

note 'Rows that are not to be seen: a step ends amid them.';
my $many = 150_000;
sql(q{ALTER TABLE apikey_revocation DISABLE TRIGGER apikey_revocation_changed});
sql(qq{INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
	SELECT gen_random_uuid(), gen_random_uuid(), now(), 'anna', false, false FROM generate_series(1, $many)});
sql(q{DELETE FROM apikey_revocation});
sql(q{ALTER TABLE apikey_revocation ENABLE ALWAYS TRIGGER apikey_revocation_changed});
cmp_ok(steps() - $usual, '>=', 4, 'revocations that were removed');
sql(q{SELECT apikey_create('beside');
	INSERT INTO apikey_revocation SELECT 'ffffffff-ffff-4fff-bfff-ffffffffffff', id, now(), 'beside', 'postgres', NULL, false, false FROM apikey_key});
sql('SELECT apikey_flush()');
is(sql('SELECT revoke_reason FROM apikeys'), 'beside', 'and what is behind them is settled');
is(sql('SELECT count(*) FROM apikey_revocation'), '0', 'for good');

sql(q{SELECT count(apikey_create('near-' || i, expires_at => now() + interval '1 day' + i * interval '1 second')) FROM generate_series(1, 1000) i; SELECT apikey_flush()});
sql(q{CREATE TABLE told AS SELECT id, expires_at FROM apikeys WHERE name LIKE 'near-%';
	ALTER TABLE apikey_key DISABLE TRIGGER apikey_key_changed});
sql(q{DO $$ BEGIN FOR i IN 1 .. 60 LOOP
	UPDATE apikey_key SET expires_at = now() + interval '1 hour' + random() * interval '20 hours' WHERE name LIKE 'near-%';
	COMMIT;
END LOOP; END $$});
sql(q{UPDATE apikey_key k SET expires_at = t.expires_at FROM told t WHERE t.id = k.id});
sql(q{ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER apikey_key_changed});
cmp_ok(steps() - $usual, '>=', 4, 'keys that were changed, to expire before all others');
is(sql(q{SELECT count(*), count(DISTINCT key_id) FROM apikey_events WHERE event = 'expiring'}), '1000|1000', 'of which each was told of once');
sql(q{CREATE ROLE gone; SET ROLE gone; SELECT count(apikey_create('gone-' || i)) FROM generate_series(1, 50) i; RESET ROLE; DROP ROLE gone});
cmp_ok(steps() - $usual, '>=', 2, 'on the way to keys of a dropped role');
is(sql(q{SELECT count(*) FROM apikey_key WHERE name LIKE 'gone-%' AND revoked_at IS NOT NULL}), '50', 'all of which are revoked');

note 'What the steps before have removed is not read again by each.';
my $rows = 4000;
sql(qq{INSERT INTO apikey_deleted (id, owner, owner_name, deleted_at)
	SELECT gen_random_uuid(), current_user::regrole, current_user, now() - interval '3 days' + i * interval '1 second' FROM generate_series(1, $rows) i});
$reader->query_safe('COMMIT');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT count(*) FROM apikey_deleted');
my $read = read_of('apikey_deleted_at');
sql('SELECT apikey_flush()');
is(sql('SELECT count(*) FROM apikey_deleted'), '0', 'deleted keys are forgotten');
$read = read_of('apikey_deleted_at') - $read;
cmp_ok($read, '>=', $rows, 'each is read');
cmp_ok($read, '<', 3 * $rows, 'once');

# Hours and days that are too old, so many of each.
sub history
{
	my ($count, $apart) = @_;
	sql(qq{INSERT INTO apikey_history (id, key_id, key_name, key_owner, key_owner_name, starts_at, step, use_count, denied, spent)
		SELECT gen_random_uuid(), gen_random_uuid(), i, current_user::regrole, current_user, now() - interval '3000 days' + i * interval '$apart', s, 1, '{}', '{}'
		FROM generate_series(1, $count) i, unnest('{1 hour,1 day}'::interval[]) s});
}
history($rows, '1 second');
$reader->query_safe('COMMIT');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$reader->query_safe('SELECT count(*) FROM apikey_history');
$read = read_of('apikey_history_step');
sql('SELECT apikey_flush()');
is(sql('SELECT count(*) FROM apikey_history'), '0', 'history that is too old is removed');
$read = read_of('apikey_history_step') - $read;
cmp_ok($read, '>=', 2 * $rows, 'each is read');
cmp_ok($read, '<', 6 * $rows, 'once');
# Many of one time, as all of an hour are.
history($rows, '0 seconds');
$read = read_of('apikey_history_step');
sql('SELECT apikey_flush()');
is(sql('SELECT count(*) FROM apikey_history'), '0', 'as many of one time');
cmp_ok(read_of('apikey_history_step') - $read, '<', 6 * $rows, 'and each is read once');
$reader->query_safe('COMMIT');
$reader->quit;

note 'Rows that somebody has, or that fail, hold up none behind them.';
sql(q{INSERT INTO apikey_deleted (id, owner, owner_name, subject, deleted_at)
	SELECT gen_random_uuid(), current_user::regrole, current_user, CASE WHEN i <= 250 THEN 'held' WHEN i = 251 THEN 'fails' ELSE 'free' END,
		now() - interval '3 days' + i * interval '1 second' FROM generate_series(1, 500) i});
history(500, '1 second');
sql(q{UPDATE apikey_history SET key_name = CASE WHEN key_name = '251' THEN 'fails' ELSE 'held' END WHERE key_name::integer <= 251});
sql(q{CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'this one fails'; END$$;
	CREATE TRIGGER fail BEFORE DELETE ON apikey_deleted FOR EACH ROW WHEN (old.subject = 'fails') EXECUTE FUNCTION fail();
	ALTER TABLE apikey_deleted ENABLE ALWAYS TRIGGER fail;
	CREATE TRIGGER fail BEFORE DELETE ON apikey_history FOR EACH ROW WHEN (old.key_name = 'fails') EXECUTE FUNCTION fail();
	ALTER TABLE apikey_history ENABLE ALWAYS TRIGGER fail});
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
is($holder->query_safe(q{SELECT count(*) FROM (SELECT FROM apikey_history WHERE key_name = 'held' FOR UPDATE) h}), '500', 'somebody has many');
is($holder->query_safe(q{SELECT count(*) FROM (SELECT FROM apikey_deleted WHERE subject = 'held' FOR UPDATE) h}), '250', 'and of those');
sql('SELECT apikey_flush()');
is(sql('SELECT subject, count(*) FROM apikey_deleted GROUP BY 1 ORDER BY 1'), "fails|1\nheld|250", 'deleted keys');
is(sql('SELECT key_name, count(*) FROM apikey_history GROUP BY 1 ORDER BY 1'), "fails|2\nheld|500", 'history');
$holder->query_safe('ROLLBACK');
$holder->quit;
sql('DROP TRIGGER fail ON apikey_deleted; DROP TRIGGER fail ON apikey_history; SELECT apikey_flush()');
is(sql('SELECT (SELECT count(*) FROM apikey_deleted), (SELECT count(*) FROM apikey_history)'), '0|0', 'and these later');

$node->stop;
done_testing();
