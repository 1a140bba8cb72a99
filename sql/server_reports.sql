-- What other servers report: applied once, each key's in its row, the history
-- and the events.
SET client_min_messages = warning;
SELECT system_identifier AS system FROM pg_control_system() \gset
SELECT coalesce(max(id), 0) AS before FROM apikey_events \gset
\set a '\'a0000000-0000-4000-8000-000000000001\''
\set t1 '\'10000000-0000-4000-8000-000000000001\''
CREATE ROLE regress_apikey_alice;
SET ROLE regress_apikey_alice;
SELECT apikey_id(apikey_create('one')) AS one \gset
SELECT apikey_id(apikey_create('two')) AS two \gset
SELECT apikey_id(apikey_create('gone')) AS gone \gset
SELECT apikey_delete(:'gone', 'gone');
RESET ROLE;
SELECT epoch FROM apikey_server_join(:a, '{}', :t1, 'reports', 'standby', '0.2.0', :system, false);
\set nothing '\'{}\', \'{}\', \'{}\', \'{}\', \'{}\', \'{}\', \'{}\', \'{}\', \'{}\''
\set no_keys '\'{}\', \'{}\', \'{}\', \'{}\', \'{}\''
\set report 'SELECT apikey_server_report(:a, 1'

-- uses and refusals, of a key that is gone too; the first of a number counts
:report, 1, '2 seconds', ARRAY[:'two', :'one', :'gone']::uuid[], '{3,5,7}', '{1,0,0}', ARRAY['2026-01-01 10:00+00', '2026-01-01 11:00+00', NULL]::timestamptz[], '{192.0.2.1,NULL,NULL}', :nothing);
:report, 1, '2 seconds', ARRAY[:'two', :'one', :'gone']::uuid[], '{3,5,7}', '{1,0,0}', ARRAY['2026-01-01 10:00+00', '2026-01-01 11:00+00', NULL]::timestamptz[], '{192.0.2.1,NULL,NULL}', :nothing);
SELECT name, use_count, denied_count, last_used_at AT TIME ZONE 'UTC' AS last_used_at, last_used_addr FROM apikeys WHERE name IN ('one', 'two') ORDER BY 1;
-- the later use wins, whichever comes first; numbers may be left out, but not go back
:report, 5, NULL, ARRAY[:'one', :'two']::uuid[], '{1,1}', '{0,0}', ARRAY['2026-01-01 09:00+00', '2026-01-01 12:00+00']::timestamptz[], '{192.0.2.9,192.0.2.2}', :nothing);
:report, 4, NULL, ARRAY[:'one', :'two']::uuid[], '{1,1}', '{0,0}', '{NULL,NULL}', '{NULL,NULL}', :nothing);
SELECT name, use_count, denied_count, last_used_at AT TIME ZONE 'UTC' AS last_used_at, last_used_addr FROM apikeys WHERE name IN ('one', 'two') ORDER BY 1;
-- no use is to come
:report, 6, NULL, ARRAY[:'one']::uuid[], '{0}', '{0}', ARRAY[now() + interval '1 year'], '{NULL}', :nothing);
SELECT last_used_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS now FROM apikeys WHERE name = 'one';
-- the history and the events
:report, 7, NULL, ARRAY[:'one']::uuid[], '{2}', '{4}', '{NULL}', '{NULL}',
	ARRAY[:'one', :'one', :'one', :'two', :'gone']::uuid[], '{f,f,t,t,t}', '{rate_limited,ip_denied,tokens,pages,pages}', '{3,1,800,-2,1}',
	ARRAY[:'one', :'two', :'gone']::uuid[], '{rate_limited,expired,expired}', '{4,1,1}', '{regress_apikey_alice,NULL,NULL}', '{192.0.2.3,NULL,NULL}');
SELECT key_name, use_count, denied, spent FROM apikey_usage_history WHERE key_id IN (:'one', :'two') ORDER BY 1;
SELECT event, key_name, actor = current_user AS mine, actor ~ '^regress_apikey_alice$' AS hers, client_addr, detail FROM apikey_events WHERE id > :before AND event = 'denied' ORDER BY id;
-- a sign of life
:report, 8, '1 second', :no_keys, :nothing);
SELECT name, last_report_at > now() - interval '1 minute' AS reported, uses, lag FROM apikey_servers WHERE name = 'reports';

-- fail: arguments
\set VERBOSITY sqlstate
:report, NULL, NULL, :no_keys, :nothing);
:report, 9, '-1 second', :no_keys, :nothing);
:report, 9, '101 years', :no_keys, :nothing);
:report, 9, '1 month -1 day', :no_keys, :nothing);
:report, 9, NULL, NULL, '{}', '{}', '{}', '{}', :nothing);
:report, 9, NULL, ARRAY[:'one']::uuid[], '{}', '{}', '{}', '{}', :nothing);
:report, 9, NULL, ARRAY[NULL]::uuid[], '{1}', '{1}', '{NULL}', '{NULL}', :nothing);
:report, 9, NULL, ARRAY[:'one']::uuid[], '{-1}', '{0}', '{NULL}', '{NULL}', :nothing);
:report, 9, NULL, ARRAY[:'one']::uuid[], '{NULL}', '{0}', '{NULL}', '{NULL}', :nothing);
:report, 9, NULL, ARRAY[:'one']::uuid[], '{1}', '{-1}', '{NULL}', '{NULL}', :nothing);
:report, 9, NULL, ARRAY[:'one']::uuid[], '{1}', '{1}', '{infinity}', '{NULL}', :nothing);
:report, 9, NULL, array_fill(:'one'::uuid, ARRAY[1001]), array_fill(1::bigint, ARRAY[1001]), array_fill(1::bigint, ARRAY[1001]), array_fill(NULL::timestamptz, ARRAY[1001]), array_fill(NULL::inet, ARRAY[1001]), :nothing);
:report, 9, NULL, :no_keys, ARRAY[:'one']::uuid[], '{f}', '{valid}', '{1}', '{}', '{}', '{}', '{}', '{}');
:report, 9, NULL, :no_keys, ARRAY[:'one']::uuid[], '{t}', '{Tokens}', '{1}', '{}', '{}', '{}', '{}', '{}');
:report, 9, NULL, :no_keys, ARRAY[:'one']::uuid[], '{f}', '{expired}', '{-1}', '{}', '{}', '{}', '{}', '{}');
:report, 9, NULL, :no_keys, '{}', '{}', '{}', '{}', ARRAY[:'one']::uuid[], '{valid}', '{1}', '{NULL}', '{NULL}');
:report, 9, NULL, :no_keys, '{}', '{}', '{}', '{}', ARRAY[:'one']::uuid[], '{expired}', '{1}', ARRAY[repeat('x', 64)], '{NULL}');
:report, 9, NULL, :no_keys, :nothing, ARRAY[:'one']::uuid[], '{full}', ARRAY[:'one']::uuid[], '{1}');
:report, 9, NULL, :no_keys, :nothing, ARRAY[:'one']::uuid[], '{NULL}', ARRAY[:'one']::uuid[], '{1}');
:report, 9, NULL, :no_keys, :nothing, ARRAY[:'one']::uuid[], '{low}', ARRAY[NULL]::uuid[], '{1}');
:report, 9, NULL, :no_keys, :nothing, ARRAY[:'one']::uuid[], '{low}', ARRAY[:'one']::uuid[], '{}');
:report, 9, NULL, :no_keys, :nothing, array_fill(:'one'::uuid, ARRAY[1001]), array_fill('low'::text, ARRAY[1001]), array_fill(:'one'::uuid, ARRAY[1001]), array_fill(1::bigint, ARRAY[1001]));
SELECT apikey_server_report(:a, 2, 9, NULL, :no_keys, :nothing);
\set VERBOSITY default
SELECT name, use_count, denied_count FROM apikeys WHERE name IN ('one', 'two') ORDER BY 1;
-- a key that stands there twice is summed, what is too much is bounded, a time of a
-- clock that is wrong and no refusal tell nothing
:report, 9, NULL, ARRAY[:'one', :'one']::uuid[], '{1,2}', '{0,3}', '{NULL,1999-01-01}', '{NULL,NULL}',
	ARRAY[:'two', :'two']::uuid[], '{t,t}', '{pages,words}', '{9223372036854775807,-9223372036854775808}',
	ARRAY[:'one']::uuid[], '{expired}', '{0}', '{NULL}', '{NULL}',
	ARRAY[:'gone']::uuid[], '{low}', ARRAY[:'gone']::uuid[], '{9223372036854775807}');
SELECT name, use_count, denied_count FROM apikeys WHERE name IN ('one', 'two') ORDER BY 1;
SELECT key_name, use_count, spent FROM apikey_usage_history WHERE key_id IN (:'one', :'two') ORDER BY 1;
SELECT count(*) FROM apikey_events WHERE id > :before AND event = 'denied';
-- no event of a limit or key that there is not
:report, 10, NULL, :no_keys, :nothing, ARRAY[:'gone', :'gone', :'gone']::uuid[], '{low,exhausted,overdrawn}', ARRAY[:'gone', :'gone', :'gone']::uuid[], '{1,0,1}');
SELECT count(*) FROM apikey_events WHERE id > :before AND event IN ('limit_low', 'limit_exhausted', 'overdrawn');
-- the greatest numbers; behind the last there is none
:report, 9223372036854775806, NULL, ARRAY[:'two']::uuid[], '{9007199254740992}', '{9007199254740992}', '{NULL}', '{NULL}', :nothing);
:report, 9223372036854775807, NULL, ARRAY[:'two']::uuid[], '{9007199254740992}', '{9007199254740992}', '{NULL}', '{NULL}', :nothing);
:report, 9223372036854775807, NULL, ARRAY[:'two']::uuid[], '{1}', '{1}', '{NULL}', '{NULL}', :nothing);
SELECT name, use_count, denied_count FROM apikeys WHERE name = 'two';
-- nothing of one that is forgotten
SELECT apikey_server_forget('reports');
:report, 9223372036854775807, NULL, :no_keys, :nothing); -- fail
SELECT apikey_delete(id, name) FROM apikeys WHERE name IN ('one', 'two');
DROP ROLE regress_apikey_alice;
