# A flush of many keys takes many steps, and has ended after the last: what was
# counted before one has ended is in the table when the next has.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '100ms'
# The day ends less often than the hour.
apikey.history_hours = 0
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION apikey CASCADE');
$node->safe_psql('postgres', q{CREATE TABLE many AS SELECT apikey_create('many-' || n) AS key FROM generate_series(1, 3000) n});
$node->safe_psql('postgres', q{
	DO $$
	DECLARE
		seen timestamptz;
		ended timestamptz;
	BEGIN
		PERFORM apikey_check(key) FROM many;
		seen := clock_timestamp();
		FOR n IN 1 .. 2 LOOP
			PERFORM apikey_check(key) FROM (SELECT key FROM many LIMIT 1) one;
			LOOP
				SELECT last_flush_at INTO ended FROM apikey_stats;
				EXIT WHEN ended > seen;
				ASSERT clock_timestamp() < seen + interval '3 minutes', 'no flush ends';
			END LOOP;
			seen := ended;
		END LOOP;
		CREATE TABLE flushed AS SELECT count(*) AS keys FROM apikey_usage WHERE id IN (SELECT apikey_id(key) FROM many);
	END $$});
is($node->safe_psql('postgres', 'SELECT keys FROM flushed'), '3000', 'a flush has ended when all of it is in the table');

# A row that somebody has is not waited for, and the others are written; a
# trigger that somebody has made fires for each.
$node->safe_psql('postgres', q{
	CREATE TABLE fired (what text, id uuid);
	CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.fired VALUES (TG_RELNAME, NEW.id); RETURN NEW; END $$;
	CREATE TABLE three AS SELECT n, key, apikey_id(key) AS id FROM (SELECT n, apikey_create('three-' || n) AS key FROM generate_series(1, 3) n) made;
	ALTER SYSTEM SET apikey.flush_interval = '1h';
	SELECT pg_reload_conf()});
my $counts = q{SELECT string_agg(use_count::text, ' ' ORDER BY n), (SELECT sum(use_count) FROM apikey_history WHERE key_id IN (SELECT id FROM three)) FROM apikey_usage JOIN three USING (id)};
my $use = sub { $node->safe_psql('postgres', 'SELECT count(*) FROM three WHERE apikey_check(key)') };
my $flush = sub { $node->safe_psql('postgres', 'SELECT apikey_flush()') };
$use->();
$flush->();
is($node->safe_psql('postgres', $counts), '1 1 1|3', 'rows are made');
$use->();
$flush->();
is($node->safe_psql('postgres', $counts), '2 2 2|6', 'and changed');
$use->();
my $other = $node->background_psql('postgres');
$other->query_safe('BEGIN');
$other->query_safe('SELECT id FROM apikey_usage WHERE id = (SELECT id FROM three WHERE n = 2) FOR UPDATE');
$flush->();
is($node->safe_psql('postgres', $counts), '3 2 3|8', 'but one that somebody has locked');
$other->query_safe('COMMIT');
$other->quit;
$flush->();
is($node->safe_psql('postgres', $counts), '3 3 3|9', 'which comes the next time');
# Whoever deletes a key does not see the first row of its use, if that is made
# meanwhile: it is left to the next time, and then there is no key.  So it is with a report.
my $server = "'10000000-0000-4000-8000-000000000001'";
$node->safe_psql('postgres', "SELECT apikey_server_join($server, '{}', $server, 'other', 'standby', '0.2.0', system_identifier, false) FROM pg_control_system()");
my $report = sub {
	my ($sequence, $keys) = @_;
	return $node->psql('postgres', "SELECT apikey_server_report($server, 1, $sequence, NULL, array_agg(id), array_agg(1::bigint), array_agg(0::bigint), array_agg(now()), array_agg(NULL::inet), '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}') FROM $keys");
};
$node->safe_psql('postgres', q{CREATE TABLE new AS SELECT name, key, apikey_id(key) AS id FROM (SELECT name, apikey_create(name) AS key FROM unnest(ARRAY['flushed', 'reported', 'kept', 'expires']) name) made;
	ALTER SYSTEM SET apikey.expiry_notice = 0;
	SELECT pg_reload_conf();
	SELECT pg_sleep(0.1);
	UPDATE apikeys SET expires_at = now() + interval '1 hour' WHERE name = 'expires'});
my $rows = q{SELECT string_agg(name, ' ' ORDER BY name) FROM new JOIN apikey_usage USING (id)};
$other = $node->background_psql('postgres');
$other->query_safe('BEGIN');
$other->query_safe('SELECT apikey_delete(id, name) FROM new');
$node->safe_psql('postgres', q{
	SELECT apikey_check(key) FROM new;
	ALTER SYSTEM RESET apikey.expiry_notice;
	SELECT pg_reload_conf()});
$flush->();
is($node->safe_psql('postgres', $rows), '', 'no row is made of a key that is being deleted');
isnt($report->(1, q{(SELECT id FROM new WHERE name = 'reported') one}), 0, 'nor by a report, which comes again');
$other->query_safe('COMMIT');
$flush->();
is($report->(1, q{(SELECT id FROM new WHERE name = 'reported') one}), 0, 'and has nothing to write then');
is($node->safe_psql('postgres', $rows), '', 'nor is one of a key that has been deleted');
$node->safe_psql('postgres', q{UPDATE new SET key = apikey_create(name); UPDATE new SET id = apikey_id(key)});
$node->safe_psql('postgres', q{SELECT apikey_check(key) FROM new WHERE name = 'flushed'});
$other->query_safe('BEGIN');
$other->query_safe(q{SELECT apikey_delete(id, name) FROM new WHERE name <> 'kept'});
$other->query_safe('ROLLBACK');
$other->quit;
$flush->();
is($report->(2, q{(SELECT id FROM new WHERE name = 'reported') one}), 0, 'a report of a key that was not deleted');
is($node->safe_psql('postgres', $rows), 'flushed reported', 'and rows are made');
# Of each row a flush and a report write one update, in its place, and no lock.
my $records = sub {
	my ($write) = @_;
	my $begin = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
	$write->();
	my $end = $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
	my ($wal) = run_command([ 'pg_waldump', '-p', $node->data_dir . '/pg_wal', '-s', $begin, '-e', $end, '-r', 'Heap' ]);
	my @found;
	for my $table ('apikey_usage', 'apikey_history')
	{
		my $rel = $node->safe_psql('postgres', "SELECT '1663/' || substr(pg_relation_filepath('$table'), 6)");
		push @found, map { /desc: (\S+) .*rel \Q$rel\E / ? "$table $1" : () } split /\n/, $wal;
	}
	return join ', ', @found;
};
my $updates = join ', ', ('apikey_usage HOT_UPDATE') x 3, ('apikey_history HOT_UPDATE') x 3;
$use->();
is($records->($flush), $updates, 'a flush');
is($records->(sub { $report->(3, 'three') }), $updates, 'a report');
is($node->safe_psql('postgres', $counts), '5 5 5|15', 'and they count');
is($node->safe_psql('postgres', 'SELECT count(*) FROM fired'), '0', 'nothing of others has fired');
$node->safe_psql('postgres', q{
	CREATE TRIGGER fire BEFORE UPDATE ON apikey_usage FOR EACH ROW EXECUTE FUNCTION fire();
	CREATE TRIGGER fire AFTER UPDATE ON apikey_history FOR EACH ROW EXECUTE FUNCTION fire()});
$use->();
$flush->();
is($node->safe_psql('postgres', $counts), '6 6 6|18', 'with triggers of others');
is($node->safe_psql('postgres', 'SELECT what, count(*) FROM fired GROUP BY 1 ORDER BY 1'), "apikey_history|3\napikey_usage|3", 'which fire');

# Nor is a row of the history waited for that somebody is just making, for a report
# perhaps; and what is behind it is written.
$node->safe_psql('postgres', q{CREATE TABLE refused AS SELECT n, key, apikey_id(key) AS key_id FROM (SELECT n, apikey_create('refused-' || n) AS key FROM generate_series(1, 20) n) made});
my $refuse = sub { $node->safe_psql('postgres', q{SELECT count(*) FROM refused, apikey_verify(key, scopes => '{none}')}) };
my $refusals = q{SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1 AND denied = '{"insufficient_scope": 2}') FROM apikey_history JOIN refused USING (key_id)};
my $take_away = sub { $node->safe_psql('postgres', "CREATE TABLE $_[0] AS SELECT h.* FROM apikey_history h JOIN refused USING (key_id) WHERE n = 1 AND $_[1]; DELETE FROM apikey_history WHERE id IN (SELECT id FROM $_[0])") };
my $make = sub { my $made = $node->background_psql('postgres'); $made->query_safe('BEGIN'); $made->query_safe("INSERT INTO apikey_history SELECT * FROM $_[0]"); return $made };
my $give_up = sub { $_[0]->query_safe('ROLLBACK'); $_[0]->quit; $flush->() };
$refuse->();
$flush->();
$take_away->('today', 'true');
$other = $make->('today');
$refuse->();
$flush->();
is($node->safe_psql('postgres', $refusals), '0|19', 'refusals of all but a key whose row is being made');
$give_up->($other);
is($node->safe_psql('postgres', $refusals), '1|19', 'which come the next time');
my $hours = sub { $node->safe_psql('postgres', q{INSERT INTO apikey_history SELECT gen_random_uuid(), key_id, key_name, key_owner, key_owner_name, key_subject, place, organization, project,
	starts_at - interval '3 hours', '1 hour', use_count, denied, spent FROM apikey_history JOIN refused USING (key_id) WHERE starts_at = date_trunc('day', now(), 'UTC')}) };
my $days = q{SELECT count(*) FILTER (WHERE n = 1), count(*) FILTER (WHERE n > 1) FROM apikey_history JOIN refused USING (key_id) WHERE step = '1 day' AND starts_at < date_trunc('day', now(), 'UTC')};
$hours->();
$flush->();
is($node->safe_psql('postgres', $days), '1|19', 'hours are summed to days');
$take_away->('yesterday', "starts_at < date_trunc('day', now(), 'UTC')");
$node->safe_psql('postgres', q{DELETE FROM apikey_history WHERE starts_at < date_trunc('day', now(), 'UTC')});
$hours->();
$other = $make->('yesterday');
$flush->();
is($node->safe_psql('postgres', $days), '0|19', 'all but to one that is being made');
$give_up->($other);
is($node->safe_psql('postgres', $days), '1|19', 'which comes the next time');

# A flush waits for no row of the history either: of a key whose row somebody has
# nothing is written, and the others of the same step are not held up.
sub told { my ($from) = @_; return grep { /^\S+ (?:WARNING|ERROR): / } split /\n/, substr(slurp_file($node->logfile), $from) }
my $busy = q{CREATE TABLE busy AS SELECT n, key, apikey_id(key) AS id FROM (SELECT n, apikey_create('busy-' || n) AS key FROM generate_series(1, 40) n) made};
my $sums = q{SELECT string_agg(DISTINCT u.use_count || '/' || h.use_count, ' ') FILTER (WHERE n <= 7), string_agg(DISTINCT u.use_count || '/' || h.use_count, ' ') FILTER (WHERE n > 7)
	FROM busy JOIN apikey_usage u USING (id) LEFT JOIN (SELECT key_id, sum(use_count) AS use_count FROM apikey_history GROUP BY 1) h ON key_id = id};
my $use_busy = sub { $node->safe_psql('postgres', 'SELECT count(*) FROM busy WHERE apikey_check(key)') };
my $begin = sub { my $session = $node->background_psql('postgres'); $session->query_safe('BEGIN'); $session->query_safe($_[0]); return $session };
$node->safe_psql('postgres', "$busy; ALTER SYSTEM SET log_line_prefix = '%n '; SELECT pg_reload_conf()");
$node->safe_psql('postgres', 'DROP TRIGGER fire ON apikey_usage; DROP TRIGGER fire ON apikey_history');
$use_busy->();
$flush->();
my $count = 0;
for my $held ([ 'locked', 'SELECT FROM apikey_history WHERE key_id IN (SELECT id FROM busy WHERE n <= 7) FOR UPDATE', 'COMMIT' ],
	[ 'changed', 'UPDATE apikey_history SET use_count = use_count WHERE key_id IN (SELECT id FROM busy WHERE n <= 7)', 'ROLLBACK' ],
	[ 'made', 'INSERT INTO apikey_history SELECT * FROM taken', 'COMMIT' ])
{
	my ($what, $have, $end) = @$held;
	my $next = ++$count + 1;
	my $left = "$count/$count";
	if ($what eq 'made')
	{
		$node->safe_psql('postgres', 'CREATE TABLE taken AS SELECT h.* FROM apikey_history h JOIN busy ON key_id = busy.id WHERE n <= 7; DELETE FROM apikey_history WHERE id IN (SELECT id FROM taken)');
		$left = '';
	}
	my $from = -s $node->logfile;
	$other = $begin->($have);
	$use_busy->();
	$flush->();
	is($node->safe_psql('postgres', $sums), "$left|$next/$next", "uses of all but keys whose row of the history somebody has $what");
	is(scalar(told($from)), 0, 'none of which was waited for');
	$other->query_safe($end);
	$other->quit;
	$flush->();
	is($node->safe_psql('postgres', $sums), "$next/$next|$next/$next", 'and they come the next time');
}

# What is waited for nevertheless, as in a trigger, holds up for 100 ms in all those
# who wait for what the step has done for others.
$node->safe_psql('postgres', q{
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.key_id IN (SELECT id FROM public.busy WHERE n <= 7) THEN
			PERFORM pg_advisory_xact_lock(42);
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait BEFORE UPDATE ON apikey_history FOR EACH ROW EXECUTE FUNCTION wait()});
my $from = -s $node->logfile;
$other = $begin->('SELECT pg_advisory_xact_lock(42)');
$use_busy->();
$flush->();
my @told = grep { /lock timeout/ } told($from);
cmp_ok(scalar(@told), '>=', 5, 'a step waits for some');
my @times = map { /^(\d+)\.(\d+) / ? $1 * 1000 + $2 : () } @told[0 .. 4];
cmp_ok($times[4] - $times[0], '<', 300, 'and for none of them long');
$other->query_safe('COMMIT');
$other->quit;
$flush->();
is($node->safe_psql('postgres', $sums), '5/5|5/5', 'all of them come the next time');
$node->stop;
done_testing();
