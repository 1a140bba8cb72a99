-- Complain if this file is fed to psql.
\echo Use "ALTER EXTENSION apikey UPDATE TO '0.2.0'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- Keys

ALTER TABLE @extschema@.apikey_key
	ADD COLUMN vouched_by regrole,
	ADD COLUMN vouched_by_name text,
	ADD COLUMN vouched_by_subject text COLLATE "C",
	ADD COLUMN created_by text,
	ADD COLUMN created_by_subject text COLLATE "C",
	ADD COLUMN updated_at timestamptz,
	ADD COLUMN enabled_at timestamptz;

-- Dumps

-- A dump leaves out the keys and members of roles that were dropped: their OIDs
-- would be read as those of other roles where it is restored.  An existing
-- role's name never begins with a digit here, for it would stand in quotes.
-- A condition names no object but pg_catalog's, for who owns the schema may
-- move all others.  What other tables hold of such keys is dumped with them,
-- and is nobody's.
SELECT pg_extension_config_dump('@extschema@.apikey_member',
	'WHERE member::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
SELECT pg_extension_config_dump('@extschema@.apikey_key',
	'WHERE owner::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]'''
	' AND (vouched_by IS NULL OR vouched_by::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]'')');
SELECT pg_extension_config_dump('@extschema@.apikey_digest', '');
SELECT pg_extension_config_dump('@extschema@.apikey_import', '');
SELECT pg_extension_config_dump('@extschema@.apikey_reveal', '');
SELECT pg_extension_config_dump('@extschema@.apikey_usage', '');
SELECT pg_extension_config_dump('@extschema@.apikey_credit', '');
