-- A table that Citus has distributed is a shell here; nothing is answered from
-- it.  Citus itself cannot be had in these tests: its catalog is stood in for.
CREATE DATABASE regress_apikey_citus;
\c regress_apikey_citus
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
RESET client_min_messages;
SELECT apikey_create('one') AS key \gset
SELECT code FROM apikey_verify(:'key');

SET allow_system_table_mods = on;
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
	VALUES (9999, 'citus', 10, 'pg_catalog'::regnamespace, false, '0');
CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass, partmethod "char");
CREATE TABLE other (i int);
INSERT INTO pg_catalog.pg_dist_partition VALUES ('other', 'n');
-- Citus sends this message with each change of its catalog.
ALTER TABLE apikey_key SET (autovacuum_enabled = on);
SELECT code FROM apikey_verify(:'key');

-- fail
INSERT INTO pg_catalog.pg_dist_partition VALUES ('apikey_digest', 'n');
ALTER TABLE apikey_digest SET (autovacuum_enabled = on);
SELECT code FROM apikey_verify(:'key');
SELECT apikey_check(:'key');
SELECT apikey_create('two');
SELECT name FROM apikeys;
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'key'));
\set VERBOSITY default

-- Undone, everything is there.
DELETE FROM pg_catalog.pg_dist_partition WHERE logicalrelid = 'apikey_digest'::regclass;
ALTER TABLE apikey_digest SET (autovacuum_enabled = on);
SELECT code FROM apikey_verify(:'key');
\c contrib_regression
DROP DATABASE regress_apikey_citus;
