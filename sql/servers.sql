-- Servers that verify beside the primary: joining, identities, names, and who
-- may. What they do is told as their workers do it, by SQL.
SET client_min_messages = warning;
SELECT system_identifier AS system FROM pg_control_system() \gset
SELECT coalesce(max(id), 0) AS before FROM apikey_events \gset
\set a '\'a0000000-0000-4000-8000-000000000001\''
\set b '\'b0000000-0000-4000-8000-000000000002\''
\set t1 '\'10000000-0000-4000-8000-000000000001\''
\set t2 '\'10000000-0000-4000-8000-000000000002\''
\set t3 '\'10000000-0000-4000-8000-000000000003\''
\set joined 'known, epoch, sequence, system_here = :system AS system, timeline, server_name'

-- alone, the primary is the only one
SELECT name IS NOT NULL AS named, role, version, leased, lag FROM apikey_servers;

-- a new one
SELECT :joined FROM apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', :system, false);
-- the same attempt again: the answer was lost
SELECT :joined FROM apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', :system, false);
-- it connects again
SELECT :joined FROM apikey_server_join(:a, ARRAY[:t1]::uuid[], :t2, 'one', 'standby', '0.2.0', :system, true);
-- a copy of it that has the token of before is somebody else
SELECT :joined FROM apikey_server_join(:a, ARRAY[:t1]::uuid[], :t3, 'one', 'standby', '0.2.0', :system, true);
-- and so is one that has none
SELECT :joined FROM apikey_server_join(:a, '{}', :t3, 'one', 'standby', '0.2.0', :system, true);
-- any of those that it knows will do
SELECT :joined FROM apikey_server_join(:a, ARRAY[:t3, :t2]::uuid[], :t1, 'one', 'standby', '0.2.0', :system, true);
-- one that knows a token but has no row was forgotten
SELECT :joined FROM apikey_server_join(:b, ARRAY[:t1]::uuid[], :t2, 'two', 'subscriber', '0.2.0', 1, true);
-- another of the same name gets a number
SELECT :joined FROM apikey_server_join(:b, '{}', :t1, 'one', 'subscriber', '0.2.0', 1, true);
SELECT :joined FROM apikey_server_join(:b, ARRAY[:t1]::uuid[], :t2, 'one', 'subscriber', '0.2.0', 1, true);
SELECT name, role, version, first_seen_at IS NOT NULL AS seen, last_report_at, uses, leased, lag
	FROM apikey_servers WHERE role <> 'primary' ORDER BY name;

-- what the primary says of itself
SELECT wal <= pg_current_wal_flush_lsn() AS wal, number, age_ms FROM apikey_server_beat(:a, 3, false);
SELECT wal IS NOT NULL AS wal, number, age_ms < 1000 AS young FROM apikey_server_beat(:b, 2, true);
SELECT wal IS NOT NULL AS wal, number >= 1 AS number FROM apikey_server_beat(:b, 2, true);
SELECT count(*), min(number) >= 1 AS number FROM apikey_beat;

-- fail: an epoch that is over, nobody
\set VERBOSITY sqlstate
SELECT apikey_server_beat(:a, 2, false);
SELECT apikey_server_beat('c0000000-0000-4000-8000-000000000003', 1, false);
-- fail: arguments
SELECT apikey_server_join(NULL, '{}', :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, NULL, :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, ARRAY[NULL]::uuid[], :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, array_fill(:t1::uuid, ARRAY[9]), :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, array_fill(:t1::uuid, ARRAY[2, 2]), :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', NULL, 'one', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, NULL, 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, '', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, repeat('x', 101), 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, E'o\nne', 'standby', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'primary', '0.2.0', :system, true);
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'standby', NULL, :system, true);
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', NULL, true);
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', :system, NULL);
SELECT apikey_server_beat(NULL, 3, false);
SELECT apikey_server_beat(:a, NULL, false);
SELECT apikey_server_beat(:a, 3, NULL);
SELECT apikey_server_forget(NULL);
-- fail: a standby of another cluster
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', 1, true);
\set VERBOSITY default

-- who may: nobody, until a superuser says so
CREATE ROLE regress_apikey_server;
SET ROLE regress_apikey_server;
\set VERBOSITY sqlstate
SELECT apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', 1, true);
SELECT apikey_server_beat(:a, 3, false);
SELECT apikey_server_forget('one');
SELECT * FROM apikey_servers;
SELECT * FROM _apikey_servers();
SELECT * FROM apikey_server;
\set VERBOSITY default
RESET ROLE;
SELECT apikey_grant('servers', 'regress_apikey_server');
SET ROLE regress_apikey_server;
SELECT known FROM apikey_server_join(:a, '{}', :t1, 'one', 'standby', '0.2.0', :system, true);
SELECT number FROM apikey_server_beat(:a, 3, false);
\set VERBOSITY sqlstate
SELECT * FROM apikey_servers;
SELECT * FROM apikey_server;
SELECT * FROM apikey_digest;
\set VERBOSITY default
RESET ROLE;
-- it has these functions and nothing else
SELECT proname COLLATE "C" AS proname FROM pg_proc WHERE proname ~ '^_?apikey' AND
	has_function_privilege('regress_apikey_server', oid, 'EXECUTE') AND NOT has_function_privilege('public', oid, 'EXECUTE') ORDER BY 1;
SELECT relname FROM pg_class WHERE relname ~ '^apikey' AND relkind IN ('r', 'v', 'S') AND
	has_table_privilege('regress_apikey_server', oid, 'SELECT') AND NOT has_table_privilege('public', oid, 'SELECT');
-- who reads the statistics sees the servers
SELECT apikey_grant('stats', 'regress_apikey_server');
SET ROLE regress_apikey_server;
SELECT name, role FROM apikey_servers WHERE role <> 'primary' ORDER BY 1;
RESET ROLE;
SELECT apikey_ungrant('stats', 'regress_apikey_server');
SELECT apikey_ungrant('servers', 'regress_apikey_server');
DROP ROLE regress_apikey_server;

-- forgotten
SELECT apikey_server_forget('nobody'), apikey_server_forget('one (2)'), apikey_server_forget('one (2)');
SELECT apikey_server_beat(:b, 2, true); -- fail
SELECT :joined FROM apikey_server_join(:b, ARRAY[:t2]::uuid[], :t3, 'one', 'subscriber', '0.2.0', 1, true);
-- one that is silent may be cut off, with more to report: its name is not free yet
UPDATE apikey_server SET seen_at = now() - interval '1 hour' WHERE name = 'one';
SELECT :joined FROM apikey_server_join(:b, '{}', :t1, 'one', 'subscriber', '0.2.0', 1, true);
SELECT apikey_server_forget('one (2)');
-- that of one that is silent for good is
UPDATE apikey_server SET seen_at = now() - interval '1 day' WHERE name = 'one';
SELECT :joined FROM apikey_server_join(:b, '{}', :t3, 'one', 'subscriber', '0.2.0', 1, true);
SELECT apikey_server_forget('one');
SELECT event, detail, actor = current_user AS mine, key_id, project FROM apikey_events WHERE id > :before AND event ~ '^server' ORDER BY id;
SELECT count(*) FROM apikey_server WHERE kind <> 'primary';
