-- What has ended is removed on demand; the trail is not, but by superusers.
CREATE ROLE regress_apikey_dba;
CREATE DATABASE regress_apikey_purge OWNER regress_apikey_dba;
\c regress_apikey_purge
SET ROLE regress_apikey_dba;
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
RESET ROLE;
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
CREATE ROLE regress_apikey_dev;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme/pay', 'regress_apikey_alice', 'admin'), apikey_member_add('acme/pay', 'regress_apikey_dev', 'developer');

SET ROLE regress_apikey_alice;
DO $$
BEGIN
	PERFORM apikey_create('expired'), apikey_create('expired-lately'), apikey_create('in-project', 'acme/pay');
	UPDATE apikeys SET expires_at = now() - CASE name WHEN 'expired-lately' THEN interval '1 hour' ELSE interval '10 days' END;
	PERFORM apikey_create('alive', expires_at => now() + interval '10 days');
	PERFORM apikey_create('eternal');
	PERFORM apikey_create('revoked');
	PERFORM apikey_create('rotated');
	PERFORM apikey_rotate(id) FROM apikeys WHERE name = 'rotated';
	PERFORM apikey_revoke(id) FROM apikeys WHERE name = 'revoked';
	PERFORM apikey_disable(apikey_id(apikey_create('disabled')));
END $$;
SET ROLE regress_apikey_bob;
SELECT apikey_create('bobs') IS NOT NULL AS created;
UPDATE apikeys SET expires_at = now() - interval '10 days';
-- Nobody removes what he may not.
SET ROLE regress_apikey_dev;
SELECT apikey_purge('0');
SET ROLE regress_apikey_alice;
SELECT apikey_purge('11 days');
SELECT apikey_purge('9 days');
SELECT name, status FROM apikeys ORDER BY name, created_at;
SELECT key_name, event FROM apikey_events WHERE event = 'deleted' ORDER BY key_name;
SELECT apikey_purge('0');
SELECT apikey_purge('0');
SELECT name, status FROM apikeys ORDER BY name;
-- what it costs grows with what the caller may delete, not with what others have
SET ROLE regress_apikey_bob;
DO $$
BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM apikey_create('bobs-' || i, expires_at => now() + interval '1 hour');
	END LOOP;
END $$;
SET ROLE regress_apikey_alice;
BEGIN;
SELECT sum(seq_tup_read + idx_tup_fetch) AS read FROM pg_stat_xact_user_tables WHERE relname = 'apikey_key' \gset
SELECT apikey_purge('0');
SELECT sum(seq_tup_read + idx_tup_fetch) - :read BETWEEN 1 AND 100 AS little
	FROM pg_stat_xact_user_tables WHERE relname = 'apikey_key';
COMMIT;
-- an application's role that sees everything deletes no more than its own
RESET ROLE;
CREATE ROLE regress_apikey_sees BYPASSRLS;
SET ROLE regress_apikey_sees;
SELECT apikey_create('seers', expires_at => now() + interval '1 hour') IS NOT NULL AS created;
UPDATE apikeys SET expires_at = now() - interval '1 hour' WHERE name = 'seers';
SELECT apikey_purge('0');
RESET ROLE;
SELECT count(*) FROM apikeys WHERE owner = 'regress_apikey_bob';
DROP ROLE regress_apikey_sees;
DELETE FROM apikey_key WHERE name LIKE 'bobs-%';
SET ROLE regress_apikey_alice;
-- fail: a negative age, too long a one, none, a transaction that only reads
SELECT apikey_purge('-1 day');
SELECT apikey_purge('101 years');
SELECT apikey_purge(NULL);
BEGIN READ ONLY;
SELECT apikey_purge('0');
ROLLBACK;
-- fail: the trail is for superusers to shorten, not for its tables' owner
SELECT apikey_events_purge('0');
RESET ROLE;
DO $$
DECLARE
	rel regclass;
BEGIN
	FOR rel IN SELECT oid FROM pg_class WHERE relname ~ '^apikey' AND relkind = 'r' LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO regress_apikey_dba', rel);
	END LOOP;
END $$;
SET ROLE regress_apikey_dba;
SELECT apikey_events_purge('0');
DELETE FROM apikey_event;
UPDATE apikey_event SET actor = 'somebody else';
MERGE INTO apikey_event USING (VALUES (1)) AS v ON true WHEN MATCHED THEN DELETE;
TRUNCATE apikey_event;
RESET ROLE;
SET session_replication_role = replica;
SET ROLE regress_apikey_dba;
DELETE FROM apikey_event;
TRUNCATE apikey_event;
RESET ROLE;
RESET session_replication_role;
SELECT count(*) AS events, count(DISTINCT event) AS kinds FROM apikey_event;
SELECT apikey_events_purge('1 day');
SELECT apikey_purge('0');
SELECT apikey_events_purge('-1 day');
SELECT apikey_events_purge('0') > 0 AS purged;
SELECT count(*) FROM apikey_event;
SET ROLE regress_apikey_dba;
SELECT apikey_create('after') IS NOT NULL AS created;
DELETE FROM apikey_event;
RESET ROLE;
UPDATE apikey_event SET actor = 'known';
SELECT event, key_name, actor FROM apikey_events;
TRUNCATE apikey_event;

-- To settle many revocations looks no further for each than to settle one.
CREATE TEMP TABLE many AS SELECT apikey_create('many-' || i) AS key FROM generate_series(1, 300) i;
SELECT count(*) FROM many WHERE apikey_self_revoke(key);
BEGIN;
SELECT apikey_purge('1 day');
SELECT pg_stat_get_xact_tuples_returned('apikey_revocation_pkey'::regclass) BETWEEN 1 AND 300 * 10 AS few;
COMMIT;
SELECT count(*) FROM apikey_revocation;
DROP TABLE many;

-- A superuser's purge removes the use of keys that are gone, too, and of no others.
SELECT apikey_create('used') AS used \gset
DELETE FROM apikey_usage;
INSERT INTO apikey_usage (id, use_count, denied_count, last_used_addr)
	VALUES (apikey_id(:'used'), 1, 0, '192.0.2.7'), ('018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f', 2, 0, '192.0.2.8');
SET ROLE regress_apikey_alice;
SELECT apikey_purge('100 years');
RESET ROLE;
SELECT count(*) FROM apikey_usage;
SELECT apikey_purge('100 years');
SELECT use_count FROM apikey_usage;
SELECT apikey_purge('-1000000 months 30000010 days');
SELECT apikey_delete(apikey_id(:'used'), 'used');

-- What there is to clean up.
SET ROLE regress_apikey_alice;
SELECT name FROM apikeys WHERE status = 'active' AND coalesce(last_used_at, created_at) < now() - interval '90 days';
SELECT name FROM apikeys WHERE status = 'active' AND expires_at < now() + interval '11 days';
SELECT name FROM apikeys WHERE status = 'active' AND expires_at IS NULL;
RESET ROLE;
DROP OWNED BY regress_apikey_bob;
SET ROLE regress_apikey_bob;
SELECT apikey_create('left-behind') IS NOT NULL AS created;
RESET ROLE;
DROP ROLE regress_apikey_bob;
SELECT name, owner FROM apikeys k WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = k.owner);
\c contrib_regression
DROP DATABASE regress_apikey_purge;
DROP ROLE regress_apikey_dba, regress_apikey_alice, regress_apikey_dev;
