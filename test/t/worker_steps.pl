# No step of the worker's is long, however much there is of one kind: who waits
# for it, for credits or at a row, does so for few rows.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
shared_preload_libraries = 'apikey'
apikey.flush_interval = '1h'
autovacuum = off
});
$node->start;
sub sql { return $node->safe_psql('postgres', @_) }
sql('CREATE EXTENSION apikey CASCADE');

my $many = 450;
my $most = 110;		# in a step; 100, and what is found together; of the flush 250

# What the worker writes, by transaction.
sql(q{CREATE TABLE written (step xid8, what text);
	-- with SET, which has the call of a function keep something from row to row
	CREATE FUNCTION note_written() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
	BEGIN
		INSERT INTO written VALUES (pg_current_xact_id(), TG_OP || ' ' || TG_TABLE_NAME);
		RETURN coalesce(new, old);
	END
	$$;
	CREATE FUNCTION watch() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		name text;
	BEGIN
		FOREACH name IN ARRAY '{apikey_key,apikey_usage,apikey_history,apikey_event,apikey_revocation,apikey_deleted}'::text[]
		LOOP
			EXECUTE format('DROP TRIGGER IF EXISTS note ON %1$I;
				CREATE TRIGGER note BEFORE INSERT OR UPDATE OR DELETE ON %1$I FOR EACH ROW EXECUTE FUNCTION note_written();
				ALTER TABLE %1$I ENABLE ALWAYS TRIGGER note', name);
		END LOOP;
		TRUNCATE written;
	END
	$$;
	CREATE FUNCTION unwatch() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		name text;
	BEGIN
		FOREACH name IN ARRAY '{apikey_key,apikey_usage,apikey_history,apikey_event,apikey_revocation,apikey_deleted}'::text[]
		LOOP
			EXECUTE format('DROP TRIGGER IF EXISTS note ON %1$I', name);
		END LOOP;
	END
	$$});

# Has the worker all done, a few rows at a time?
sub steps
{
	my ($done, $what, $most) = (@_, $most);
	sql('SELECT watch()');
	my $all;
	for (1 .. 10)
	{
		sql('SELECT apikey_flush()');
		last if ($all = sql("SELECT $done")) eq 't';
	}
	is($all, 't', "$what: all is done");
	is(sql("SELECT string_agg(DISTINCT what || ' ' || rows, ', ') FROM (SELECT step, what, count(*) AS rows FROM written
		GROUP BY step, what) AS s WHERE rows > $most"), '', "$what: by steps of few rows");
	cmp_ok(sql('SELECT coalesce(max(rows), 0) FROM (SELECT count(*) AS rows FROM written GROUP BY step, what) AS s'), '>', 0,
		"$what: which were seen");
	sql('SELECT unwatch()');
	return;
}

sql(qq{SELECT apikey_organization_create('acme'), apikey_project_create('acme/pay');
	CREATE TABLE keys AS SELECT i, apikey_create('used-' || i) AS key FROM generate_series(1, $many) i;
	SELECT count(code) FROM keys, apikey_verify(key)});
steps("(SELECT count(*) FROM apikeys WHERE use_count = 1) = $many AND (SELECT count(*) FROM apikey_history) = $many", 'uses and their history', 260);

sql(qq{SET session_replication_role = replica; UPDATE apikey_history SET starts_at = starts_at - interval '20 days'});
steps("(SELECT count(*) FROM apikey_history WHERE step = '1 day') > 0 AND (SELECT count(*) FROM apikey_history WHERE step = '1 hour') = 0",
	'hours that are summed');

sql("UPDATE apikeys SET expires_at = now() + interval '1 hour' WHERE name LIKE 'used-%'");
steps("(SELECT count(*) FROM apikey_events WHERE event = 'expiring') = $many", 'keys that expire');

sql(qq{SELECT count(apikey_create('idle-' || i, 'acme/pay')) FROM generate_series(1, $many) i;
	BEGIN; UPDATE apikey_projects SET max_idle = '1 hour' WHERE path = 'acme/pay';
	UPDATE apikey_project SET max_idle_at = now() - interval '1 day';
	UPDATE apikey_key SET created_at = now() - interval '1 day', enabled_at = NULL WHERE name LIKE 'idle-%'; COMMIT});
steps("(SELECT count(*) FROM apikeys WHERE revoke_reason = 'idle') = $many", 'idle keys');

sql(qq{CREATE ROLE gone; SET ROLE gone; SELECT count(apikey_create('gone-' || i)) FROM generate_series(1, $many) i; RESET ROLE; DROP ROLE gone});
steps("(SELECT count(*) FROM apikey_key WHERE name LIKE 'gone-%' AND revoked_at IS NOT NULL) = $many", 'keys of a dropped role');

sql(qq{SELECT count(apikey_create('beside-' || i)) FROM generate_series(1, $many) i;
	INSERT INTO apikey_revocation SELECT gen_random_uuid(), id, now(), 'beside', 'postgres', NULL, false, false
		FROM apikey_key WHERE name LIKE 'beside-%'});
steps("(SELECT count(*) FROM apikey_key WHERE revoke_reason = 'beside') = $many AND NOT EXISTS (SELECT FROM apikey_revocation)",
	'revocations beside rows');

sql(qq{SELECT apikey_delete(id, name) FROM apikeys WHERE name LIKE 'beside-%';
	UPDATE apikey_deleted SET deleted_at = now() - interval '2 days'});
steps('NOT EXISTS (SELECT FROM apikey_deleted)', 'what is kept of deleted keys');

sql(q{ALTER SYSTEM SET apikey.event_retention = '10d'; SELECT pg_reload_conf();
	SET session_replication_role = replica; UPDATE apikey_event SET at = at - interval '20 days' WHERE id < (SELECT max(id) FROM apikey_event)});
steps('(SELECT count(*) FROM apikey_event) <= 1', 'events that are too old');

# Old leases of servers that somebody has are left: a flush ends.
sql(q{INSERT INTO apikey_server_lease (id, server, account, number, granted, amount, generation, left_over, granted_at)
	SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), i, 1, 1, 1, 0, now() - interval '3 days' FROM generate_series(1, 60) i});
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
is($holder->query_safe('SELECT count(*) FROM (SELECT FROM apikey_server_lease FOR UPDATE) l'), '60', 'somebody has many leases');
my ($rc) = $node->psql('postgres', q{SET statement_timeout = '30s'; SELECT apikey_flush()});
is($rc, 0, 'a flush ends meanwhile');
$holder->query_safe('ROLLBACK');
$holder->quit;
sql('SELECT apikey_flush()');
is(sql('SELECT count(*) FROM apikey_server_lease'), '0', 'and they go later');

$node->stop;
done_testing();
