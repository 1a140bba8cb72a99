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
