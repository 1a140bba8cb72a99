# Counts and last use: gathered in shared memory, flushed by the worker, kept
# over a clean restart, per database; and the throttled update without it all.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
apikey.max_tracked_keys = 16
autovacuum = off
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE; CREATE ROLE mallory');
my %key = map { $_ => $node->safe_psql('postgres', qq{SELECT apikey_create('$_', scopes => '{a}')}) } qw(one two);

my $usage = q{SELECT name, use_count, denied_count, last_used_at > now() - interval '1 minute', last_used_addr
	FROM apikeys WHERE name IN ('one', 'two') ORDER BY name};
is($node->safe_psql('postgres', $usage), "one|0|0||\ntwo|0|0||", 'not used yet');

# Counted at once, by every session, and not in the tables yet.
$node->safe_psql('postgres', qq{
	SELECT apikey_check('$key{one}') FROM generate_series(1, 10) i WHERE i > 0;
	SELECT code FROM apikey_verify('$key{one}', client_addr => '192.0.2.7');
	SELECT code FROM apikey_verify('$key{one}', cost => 0);
	SELECT code FROM apikey_verify('$key{one}', scopes => '{b}');
	SELECT code FROM apikey_verify('$key{two}', client_addr => '2001:db8::1');
	SELECT code FROM apikey_verify('$key{two}');
	SELECT code FROM apikey_verify('nonsense');
	SELECT code FROM apikey_verify_digest(left('$key{one}', -39), sha256('wrong'))});
my $counted = "one|2|1|t|192.0.2.7\ntwo|2|0|t|2001:db8::1";
my ($checks) = $node->safe_psql('postgres', $usage) =~ /^one\|(\d+)/;
$counted =~ s/^one\|2/one|$checks/;
cmp_ok($checks, '>=', 2, 'uses are counted');
is($node->safe_psql('postgres', $usage), $counted, 'counts, time and address');
is($node->safe_psql('postgres', 'SELECT count(*) FROM apikey_usage'), '0', 'not in the table yet');
is( $node->safe_psql('postgres', q{SELECT verifications - 'valid', tracked_keys, evictions, not_attributed,
		last_flush_at IS NULL, since <= now() FROM apikey_stats}),
	'{"malformed": 1, "not_found": 1, "insufficient_scope": 1}|2|0|0|t|t', 'apikey_stats');
is( $node->safe_psql('postgres', qq{SET ROLE mallory; SELECT use_count FROM apikeys WHERE id = apikey_id('$key{one}')}),
	'', 'a stranger is told nothing of a key');

# A rolled back or read-only transaction counts too, and writes nothing.
is( $node->safe_psql('postgres', qq{
		BEGIN READ ONLY;
		SELECT pg_current_wal_insert_lsn() AS before \\gset
		SELECT apikey_check('$key{two}') \\g /dev/null
		SELECT pg_current_wal_insert_lsn() = :'before';
		ROLLBACK}), 't', 'without a byte of WAL');
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'two'}), '3', 'counted in a read-only transaction');

# A clean restart keeps all of it.
$counted =~ s/two\|2/two|3/;
$node->restart;
is($node->safe_psql('postgres', $usage), $counted, 'after a clean restart');
ok(!-e $node->data_dir . '/pg_stat/apikey.stat', 'the file is read once');

# The worker flushes; one row update a key.
$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '100ms'});
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM apikey_usage'), "waited");
ok($node->poll_query_until('postgres', 'SELECT last_flush_at IS NOT NULL FROM apikey_stats'), "waited");
is($node->safe_psql('postgres', $usage), $counted, 'after a flush');
is( $node->safe_psql('postgres', q{SELECT name, u.use_count, u.denied_count FROM apikey_usage u JOIN apikey_key USING (id) ORDER BY name}),
	"one|$checks|1\ntwo|3|0", 'all in the table');
$node->safe_psql('postgres', qq{SELECT apikey_check('$key{two}')});
ok($node->poll_query_until('postgres', q{SELECT max(u.use_count) = 4 FROM apikey_usage u JOIN apikey_key k USING (id) WHERE name = 'two'}), "waited");
pass('a second flush adds');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'two'}), '4', 'after a crash, what was flushed');

# Another database has counts of its own, and its drop takes them along.
$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '1h'});
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE other TEMPLATE postgres');
$node->safe_psql('other', qq{SELECT apikey_check('$key{two}')});
is($node->safe_psql('other', q{SELECT use_count FROM apikeys WHERE name = 'two'}), '5', 'counted in the other database');
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'two'}), '4', 'and not in this one');
$node->psql('other', 'DROP DATABASE other');
is($node->safe_psql('other', q{SELECT use_count FROM apikeys WHERE name = 'two'}), '5', 'a drop that fails takes nothing');
$node->safe_psql('postgres', 'DROP DATABASE other');
is($node->safe_psql('postgres', q{SELECT tracked_keys FROM apikey_stats}), '0', 'nothing tracked here');

# More keys than there is room for: what is flushed makes way, what is not
# stays, and the rest is counted together.
$node->safe_psql('postgres', q{CREATE TABLE many AS SELECT i, apikey_create('many-' || i) AS key FROM generate_series(1, 40) i});
is($node->safe_psql('postgres', 'SELECT count(*) FROM many WHERE apikey_check(key)'), '40', 'all of them verify');
is($node->safe_psql('postgres', 'SELECT tracked_keys, evictions, not_attributed FROM apikey_stats'), '16|0|24', 'full of what is not flushed');
$node->safe_psql('postgres', q{ALTER SYSTEM SET apikey.flush_interval = '100ms'});
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT count(*) = 16 FROM apikey_usage u JOIN apikey_key k USING (id) WHERE name LIKE 'many%'}), "waited");
ok($node->poll_query_until('postgres', q{SELECT sum(v.use_count - u.use_count) = 0 FROM apikeys v JOIN apikey_usage u USING (id)}), "waited");
is($node->safe_psql('postgres', 'SELECT count(*) FROM many WHERE i > 24 AND apikey_check(key)'), '16', 'others verify');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 32 FROM apikey_usage u JOIN apikey_key k USING (id) WHERE name LIKE 'many%'}), "waited");
is($node->safe_psql('postgres', 'SELECT not_attributed FROM apikey_stats'), '24', 'with room, all are attributed');
cmp_ok($node->safe_psql('postgres', 'SELECT evictions FROM apikey_stats'), '>=', 16, 'flushed keys made way');

# A key that somebody is deleting holds up no other's counts; his come later.
my %held = map { $_ => $node->safe_psql('postgres', "SELECT apikey_create('$_')") } qw(held free);
my $flushed = sub {
	my ($name, $count) = @_;
	return ok($node->poll_query_until('postgres', qq{SELECT u.use_count = $count FROM apikey_usage u JOIN apikey_key k USING (id) WHERE name = '$name'}), "waited");
};
$node->safe_psql('postgres', qq{SELECT apikey_check('$held{held}')});
$flushed->('held', 1);
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'held'");
$node->safe_psql('postgres', qq{SELECT apikey_check('$held{held}'), apikey_check('$held{free}')});
$flushed->('free', 1);
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'held'}), '2', 'not counted in the table yet');
$holder->query_safe('ROLLBACK');
$flushed->('held', 2);
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'held'}), '2', 'counted once');
$holder->quit;

# Eight sessions at once lose nothing.
my $script = PostgreSQL::Test::Utils::tempdir() . '/check.sql';
append_to_file($script, "SELECT apikey_check('$key{one}');\n");
$node->command_ok([ 'pgbench', '-n', '-c', '8', '-t', '500', '-f', $script, 'postgres' ], 'eight sessions');
is($node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'}), $checks + 4000, 'every use is counted');

# A standby counts in its own memory, and flushes once it is promoted.
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $count = $node->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'});
$standby->safe_psql('postgres', qq{SELECT apikey_check('$key{one}')});
is($standby->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'}), $count + 1, 'a standby counts');
$standby->restart;
is($standby->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'}), $count + 1, 'over a restart');
$standby->promote;
ok($standby->poll_query_until('postgres', q{SELECT last_flush_at IS NOT NULL FROM apikey_stats}), "waited");
is($standby->safe_psql('postgres', q{SELECT use_count FROM apikeys WHERE name = 'one'}), $count + 1, 'flushed when promoted');
$standby->stop;
$node->stop;

# Without the library preloaded: the last use, once in an interval.
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', 'apikey.usage_interval = 3600');
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
my $key = $plain->safe_psql('postgres', q{SELECT apikey_create('one')});
my $last = q{SELECT last_used_at > now() - interval '1 minute', last_used_addr, use_count FROM apikeys};
$plain->safe_psql('postgres', qq{BEGIN READ ONLY; SELECT apikey_check('$key'); COMMIT});
is($plain->safe_psql('postgres', $last), '||0', 'nothing is written in a read-only transaction');
$plain->safe_psql('postgres', qq{SELECT code FROM apikey_verify('$key', cost => 0)});
is($plain->safe_psql('postgres', $last), '||0', 'nor when nothing is spent');

# The first session has not committed: the others neither wait nor fail.
my $first = $plain->background_psql('postgres');
$first->query_safe('BEGIN');
$first->query_safe(qq{SELECT code FROM apikey_verify('$key', client_addr => '192.0.2.7')});
is($plain->safe_psql('postgres', qq{SET lock_timeout = '1s'; SELECT code FROM apikey_verify('$key')}), 'valid', 'nobody waits for the first row');
$first->query_safe('COMMIT');
is($plain->safe_psql('postgres', $last), 't|192.0.2.7|0', 'the last use is written');
$plain->safe_psql('postgres', qq{SELECT code FROM apikey_verify('$key', client_addr => '192.0.2.8')});
is($plain->safe_psql('postgres', $last), 't|192.0.2.7|0', 'and not again within the interval');

$plain->safe_psql('postgres', q{UPDATE apikey_usage SET last_used_at = now() - interval '2 hours'});
$first->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$first->query_safe('SELECT 1');
$plain->safe_psql('postgres', qq{UPDATE apikey_usage SET last_used_at = now() - interval '90 minutes'});
is($first->query_safe(qq{SELECT code FROM apikey_verify('$key', client_addr => '192.0.2.9')}), 'valid', 'a snapshot that is too old does not fail');
$first->query_safe('COMMIT');
$first->query_safe('BEGIN');
$first->query_safe('SELECT FROM apikey_usage FOR UPDATE');
is($plain->safe_psql('postgres', qq{SET lock_timeout = '1s'; SELECT code FROM apikey_verify('$key')}), 'valid', 'nobody waits for a locked row');
$first->query_safe('COMMIT');
$first->quit;
$plain->safe_psql('postgres', qq{SELECT code FROM apikey_verify('$key', client_addr => '192.0.2.10')});
is($plain->safe_psql('postgres', $last), 't|192.0.2.10|0', 'and then it is written');
is($plain->safe_psql('postgres', 'SELECT * FROM apikey_stats'), '||||||{"00000000": 1}', 'no statistics, but of peppers');
$plain->stop;
done_testing();
