-- What a session remembers to have verified is never older than the tables.
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_group;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay') IS NULL AS no_key;
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'admin');
SET ROLE regress_apikey_anna;
SELECT apikey_create('personal') AS one, apikey_create('held', 'acme/pay', scopes => '{a}') AS two \gset
RESET ROLE;
SELECT 'regress_apikey_anna'::regrole::oid AS anna \gset
PREPARE verify AS SELECT
	(SELECT code FROM apikey_verify(:'one', owner => :'anna')) AS one,
	(SELECT code || coalesce(' ' || role, '') FROM apikey_verify(:'two', project => 'acme/pay')) AS two;
EXECUTE verify;
EXECUTE verify;
SELECT apikey_check(:'one', owner => :'anna'), apikey_check(:'two', project => 'acme'), apikey_check(:'two', '{a}', 'acme'), apikey_check(:'two', '{b}', 'acme');
-- a wrong secret is not known by the right one's entry
SELECT code FROM apikey_verify_digest(left(:'one', -39), sha256('wrong'), owner => :'anna');
SELECT code FROM apikey_verify_digest('bk' || substr(left(:'one', -39), 3), sha256(:'one'::bytea), owner => :'anna');
SELECT code FROM apikey_verify_digest(left(:'one', -39), sha256(:'one'::bytea), owner => :'anna');

-- A superuser's statements, whatever they are; rolled back, and kept.
BEGIN;
UPDATE apikey_key SET revoked_at = now();
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
UPDATE apikey_key SET disabled = true;
EXECUTE verify;
SAVEPOINT s;
UPDATE apikey_key SET disabled = false;
EXECUTE verify;
ROLLBACK TO s;
EXECUTE verify;
RELEASE s;
UPDATE apikey_key SET disabled = false WHERE name = 'held';
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
DELETE FROM apikey_digest;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
TRUNCATE apikey_key;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
DELETE FROM apikey_member WHERE project IS NOT NULL;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
DELETE FROM apikey_project;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
-- without triggers that replicas leave out
SET session_replication_role = replica;
BEGIN;
UPDATE apikey_key SET disabled = true;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
RESET session_replication_role;
-- removed and brought back by COPY
CREATE TABLE regress_keys AS SELECT * FROM apikey_key;
UPDATE regress_keys SET disabled = true;
\getenv abs_builddir PG_ABS_BUILDDIR
\set file :abs_builddir '/results/keys.copy'
COPY regress_keys TO :'file';
DELETE FROM apikey_key;
EXECUTE verify;
COPY apikey_key FROM :'file';
EXECUTE verify;
UPDATE apikey_key SET disabled = false;
EXECUTE verify;
DROP TABLE regress_keys;
-- tables rewritten, indexes made anew
VACUUM FULL apikey_key, apikey_digest;
EXECUTE verify;
REINDEX TABLE CONCURRENTLY apikey_digest;
REINDEX INDEX CONCURRENTLY apikey_key_pkey;
SET apikey.cache_entries = 0;
EXECUTE verify;
RESET apikey.cache_entries;
EXECUTE verify;

-- What is made and rolled back was never there.
BEGIN;
SELECT apikey_create('passing') AS passing \gset
SELECT code FROM apikey_verify(:'passing');
SELECT code FROM apikey_verify(:'passing');
ROLLBACK;
SELECT code FROM apikey_verify(:'passing');
BEGIN;
SAVEPOINT s;
SELECT apikey_create('passing') AS passing \gset
SELECT code FROM apikey_verify(:'passing');
ROLLBACK TO s;
SELECT code FROM apikey_verify(:'passing');
COMMIT;
BEGIN;
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'owner');
EXECUTE verify;
ROLLBACK;
EXECUTE verify;
BEGIN;
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
EXECUTE verify;
ROLLBACK;
EXECUTE verify;

-- Roles: membership, superuser, the name, and the drop.
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
SELECT apikey_member_add('acme/pay', 'regress_apikey_group', 'developer');
EXECUTE verify;
GRANT regress_apikey_group TO regress_apikey_anna;
EXECUTE verify;
REVOKE regress_apikey_group FROM regress_apikey_anna;
EXECUTE verify;
-- who owns the database is a member, too
SELECT apikey_member_add('acme/pay', 'pg_database_owner', 'admin');
EXECUTE verify;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO regress_apikey_anna', current_database()); END $$;
EXECUTE verify;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO CURRENT_USER', current_database()); END $$;
EXECUTE verify;
SELECT apikey_member_remove('acme/pay', 'pg_database_owner');
ALTER ROLE regress_apikey_anna SUPERUSER;
EXECUTE verify;
ALTER ROLE regress_apikey_anna NOSUPERUSER;
EXECUTE verify;
SELECT code, owner FROM apikey_verify(:'one', owner => :'anna');
ALTER ROLE regress_apikey_anna RENAME TO regress_apikey_anne;
SELECT code, owner FROM apikey_verify(:'one', owner => :'anna');
BEGIN;
DROP ROLE regress_apikey_anne;
EXECUTE verify;
ROLLBACK;
EXECUTE verify;

-- Whether subjects count.
SELECT apikey_member_add('acme/pay', 'regress_apikey_anne', 'admin', 'user-1');
EXECUTE verify;
SET apikey.subject_setting = 'request.jwt.claim.sub';
EXECUTE verify;
RESET apikey.subject_setting;
EXECUTE verify;
BEGIN;
SET LOCAL apikey.subject_setting = 'request.jwt.claim.sub';
EXECUTE verify;
ROLLBACK;
EXECUTE verify;

-- The clock.
BEGIN;
SELECT apikey_create('soon', expires_at => clock_timestamp() + interval '1 second') AS soon \gset
COMMIT;
SELECT code FROM apikey_verify(:'soon');
SELECT pg_sleep(1.1);
SELECT code FROM apikey_verify(:'soon');

-- It has a bound, and does not grow.
CREATE TABLE regress_many AS SELECT apikey_create('many-' || i, metadata => jsonb_build_object('x', repeat('x', i % 100))) AS key FROM generate_series(1, 2500) i;
CREATE FUNCTION regress_used() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(total_bytes), 0)::bigint FROM pg_backend_memory_contexts WHERE name = 'apikey verified keys' $$;
SET apikey.cache_entries = 1000;
SELECT count(*) FROM regress_many WHERE apikey_check(key);
SELECT regress_used() AS used \gset
SELECT :used BETWEEN 100000 AND 5000000 AS bounded;
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM count(*) FROM regress_many WHERE apikey_check(key);
	END LOOP;
END $$;
SELECT regress_used() <= :used * 1.5 AS bounded;
SELECT count(*) AS sum FROM (SELECT (SELECT code FROM apikey_verify(key)) AS code FROM regress_many) AS c WHERE code = 'valid';
-- what is large is read each time
SELECT apikey_create('large', metadata => jsonb_build_object('x', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1500) i))) AS large \gset
SELECT count(*), min(length(metadata::text)) FROM generate_series(1, 3), LATERAL (SELECT metadata FROM apikey_verify(:'large') WHERE generate_series > 0) AS v;
RESET apikey.cache_entries;
-- and one in bytes, whatever the keys' sizes and what is asked of them
SET apikey.cache_memory = '256kB';
DO $$
BEGIN
	FOR i IN 0 .. 9 LOOP
		UPDATE apikeys SET metadata = jsonb_build_object('x', repeat('x', 700 * i)) WHERE name LIKE 'many-%' || i;
	END LOOP;
END $$;
DO $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		PERFORM count(*) FROM regress_many WHERE apikey_check(key);
		PERFORM count(metadata) FROM regress_many, apikey_verify(key);
		PERFORM count(metadata) FROM (SELECT key FROM regress_many ORDER BY md5(key)) m, apikey_verify(key);
	END LOOP;
END $$;
SELECT regress_used() BETWEEN 192 * 1024 AND 256 * 1024 AS bounded;
SET apikey.cache_memory = '64kB';
SELECT count(*) FROM regress_many WHERE apikey_check(key);
SELECT regress_used() BETWEEN 48 * 1024 AND 64 * 1024 AS bounded;
-- what is in use stays; the tables are read for the others alone
RESET apikey.cache_memory;
SET apikey.cache_entries = 100;
CREATE FUNCTION regress_reads(query text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_stat_get_xact_numscans('apikey_digest_pkey'::regclass);
BEGIN
	EXECUTE query;
	RETURN pg_stat_get_xact_numscans('apikey_digest_pkey'::regclass) - before;
END $$;
CREATE TABLE regress_numbered AS SELECT row_number() OVER (ORDER BY key) AS n, key FROM regress_many;
SELECT regress_reads('SELECT count(apikey_check(key)) FROM (SELECT key FROM regress_numbered WHERE n <= 50) k') AS hot;
SELECT regress_reads($$SELECT count(apikey_check(key)) FROM (SELECT key FROM generate_series(0, 3999) i
	JOIN regress_numbered ON n = CASE WHEN i % 2 = 0 THEN i / 2 % 50 + 1 ELSE 51 + i / 2 END ORDER BY i) k$$) BETWEEN 2000 AND 2100 AS cold_ones;
-- one key more takes the place of one, and at 1.2 times its size a session
-- reads one call of six or so from the tables
SET apikey.cache_entries = 1000;
SELECT regress_reads('SELECT count(apikey_check(key)) FROM (SELECT key FROM regress_numbered WHERE n <= 1000 ORDER BY n) k') >= 1000 AS filled;
SELECT regress_reads('SELECT count(apikey_check(key)) FROM regress_numbered WHERE n = 1001') AS one_more,
	regress_reads('SELECT count(apikey_check(key)) FROM (SELECT key FROM regress_numbered WHERE n <= 1001 ORDER BY n DESC) k') AS that_has_gone;
SELECT regress_reads($$SELECT count(apikey_check(key)) FROM (SELECT key FROM generate_series(1, 12000) i
	JOIN regress_numbered ON n = 1 + hashint4(i)::bigint % 600 + 600 ORDER BY i) k$$) BETWEEN 1000 AND 3000 AS no_cliff;
-- a small key takes 500 bytes at most, with the row that is told of it; the
-- newest stay where there is no room for all; what a key is proved by is read
-- once more where its first use is written
RESET apikey.cache_entries;
SET apikey.cache_memory = '1MB';
CREATE TABLE regress_small AS SELECT n, apikey_create('small-' || n, scopes => '{a,b}') AS key FROM generate_series(1, 5000) n;
SELECT 1024 * 1024 / 500 AS fit \gset
SELECT regress_reads(format('SELECT count(apikey_check(key)) FROM regress_small WHERE n <= %s', :fit)) = 2 * :fit AS read,
	regress_reads(format('SELECT count(v.code) FROM regress_small, apikey_verify(key) v WHERE n <= %s', :fit)) AS read_again,
	regress_reads(format('SELECT count(v.code) FROM regress_small, apikey_verify(key) v WHERE n <= %s', :fit)) AS read_again;
SELECT regress_reads('SELECT count(apikey_check(key)) FROM (SELECT key FROM regress_small ORDER BY n) k') > 2000 AS read,
	regress_reads(format('SELECT count(apikey_check(key)) FROM (SELECT key FROM regress_small WHERE n > 5000 - %s ORDER BY n DESC) k', :fit)) AS newest,
	regress_used() <= 1024 * 1024 AS bounded;
DROP TABLE regress_small;
-- nothing is remembered where there is no room
SET apikey.cache_memory = 0;
SELECT regress_reads('SELECT count(apikey_check(key)) FROM regress_numbered WHERE n <= 50'),
	regress_reads('SELECT count(apikey_check(key)) FROM regress_numbered WHERE n <= 50');
RESET apikey.cache_memory;
RESET apikey.cache_entries;
DROP TABLE regress_many, regress_numbered;
DROP FUNCTION regress_used, regress_reads;

SELECT apikey_organization_drop('acme', 'acme');
EXECUTE verify;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
EXECUTE verify;
DROP ROLE regress_apikey_anne, regress_apikey_group;
