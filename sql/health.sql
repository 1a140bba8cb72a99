-- What monitoring asks: apikey_health(), apikey_stats_codes, apikey_peppers.
CREATE DATABASE regress_apikey_health;
\c regress_apikey_health
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
CREATE ROLE regress_apikey_watch IN ROLE pg_monitor;
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_gone;
\set own 'owner => CURRENT_USER::text::regrole'
SELECT apikey_create('one') AS key \gset
SELECT apikey_import('old', 'sha256', encode(sha256('from elsewhere'), 'hex')) IS NOT NULL AS imported;

-- Each check is a row; nothing is wrong.  What is ok may have advice.
SELECT name, severity, hint FROM apikey_health() ORDER BY name;
SELECT name, value FROM apikey_health() WHERE name IN ('preloaded', 'pepper', 'peppers', 'indexes', 'triggers', 'citus', 'replay');
SELECT value = (SELECT extversion FROM pg_extension WHERE extname = 'apikey') AS version FROM apikey_health() WHERE name = 'version';

-- Codes, all of them, and peppers.
SELECT apikey_check(:'key', :own), apikey_check(:'key', :own), apikey_check('x');
SELECT * FROM apikey_stats_codes;
SELECT * FROM apikey_peppers;
SELECT peppers FROM apikey_stats;
-- counted as this transaction sees it
BEGIN;
SELECT apikey_create('two') IS NOT NULL AS created;
SELECT * FROM apikey_peppers;
ROLLBACK;
SELECT * FROM apikey_peppers;
-- a pepper that is gone
BEGIN;
UPDATE apikey_digest SET pepper = -2;
UPDATE apikey_import SET foreign_pepper = -2;
SELECT * FROM apikey_peppers;
SELECT name, severity, value FROM apikey_health() WHERE severity <> 'ok';
ROLLBACK;

-- What is broken is a row, with what to do.
CREATE FUNCTION regress_bad() RETURNS TABLE (name text, severity text, value text, hint text) LANGUAGE sql AS
	$$ SELECT name, severity, value, left(hint, 90) FROM apikey_health() WHERE severity <> 'ok' $$;
BEGIN;
DROP INDEX apikey_member_who;
SELECT * FROM regress_bad();
ROLLBACK;
BEGIN;
ALTER TABLE apikey_key DISABLE TRIGGER ALL;
ALTER TABLE apikey_key ENABLE TRIGGER ALL;
SELECT name, severity, value, hint FROM apikey_health() WHERE severity <> 'ok';
ROLLBACK;
BEGIN;
ALTER EXTENSION apikey DROP TABLE apikey_member;
SELECT * FROM regress_bad();
ROLLBACK;
SET apikey.pepper_file = '/nonexistent';
SELECT * FROM regress_bad();
SELECT * FROM apikey_peppers;
RESET apikey.pepper_file;
SET client_min_messages = error;
CREATE PUBLICATION regress_apikey FOR TABLE apikey_key WHERE (owner_name = 'anna');
SELECT * FROM regress_bad();
DROP PUBLICATION regress_apikey;
SELECT extversion FROM pg_extension WHERE extname = 'apikey' \gset
UPDATE pg_extension SET extversion = '0.1.9' WHERE extname = 'apikey';
SELECT name, severity, split_part(value, ',', 1) AS value, left(hint, 60) AS hint FROM apikey_health() WHERE severity <> 'ok';
UPDATE pg_extension SET extversion = :'extversion' WHERE extname = 'apikey';
-- a role that is gone, and its live key
SET ROLE regress_apikey_gone;
SELECT apikey_create('gones') IS NOT NULL AS created;
RESET ROLE;
BEGIN;
DROP ROLE regress_apikey_gone;
SELECT * FROM regress_bad();
ROLLBACK;
SELECT * FROM regress_bad();

-- Keys with subjects, which nothing tells apart, and those who would: the
-- session, the database, a role, a role there.
CREATE FUNCTION regress_subjects() RETURNS TABLE (severity text, value text, hint text) LANGUAGE sql AS
	$$ SELECT severity, value, hint FROM apikey_health() WHERE name = 'subjects' $$;
SELECT * FROM regress_subjects();
SET ROLE regress_apikey_anna;
SELECT apikey_create('without') IS NOT NULL AS created;
RESET ROLE;
SELECT value FROM regress_subjects();
SET ROLE regress_apikey_anna;
SELECT apikey_create('hers', subject => 'user-1') IS NOT NULL AS created;
RESET ROLE;
SELECT * FROM regress_subjects();
SELECT count(*) FROM apikey_health() WHERE name = 'subjects' AND severity <> 'ok';
SET apikey.subject_setting = 'my.user';
SELECT * FROM regress_subjects();
RESET apikey.subject_setting;
CREATE FUNCTION regress_subjects_with(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	told text;
BEGIN
	EXECUTE statement;
	SELECT value INTO told FROM regress_subjects();
	RAISE EXCEPTION USING errcode = 'ZZ000', message = told;
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN sqlerrm;
END $$;
SELECT statement, regress_subjects_with(statement) FROM unnest(ARRAY[
	$$ALTER DATABASE regress_apikey_health SET "Apikey.Subject_Setting" = 'request.jwt.claims:sub'$$,
	$$ALTER ROLE regress_apikey_anna SET apikey.subject_setting = 'my.user'$$,
	$$ALTER ROLE regress_apikey_anna IN DATABASE regress_apikey_health SET apikey.subject_setting = 'my.user'$$,
	-- elsewhere, or as good as not
	$$ALTER ROLE regress_apikey_anna IN DATABASE postgres SET apikey.subject_setting = 'my.user'$$,
	$$ALTER ROLE regress_apikey_anna SET apikey.subject_setting = ''$$,
	$$ALTER DATABASE regress_apikey_health SET my.subject_setting = 'apikey.subject_setting'$$]) AS statement;
-- others' keys that are gone, and stay in the way: no more than so many are looked at
BEGIN;
SET LOCAL ROLE regress_apikey_anna;
SELECT count(apikey_create('gone-' || i, subject => 'user-0')) FROM generate_series(1, 800) AS i;
RESET ROLE;
DELETE FROM apikey_key WHERE subject = 'user-0';
SELECT value FROM regress_subjects();
SET LOCAL ROLE regress_apikey_anna;
SELECT count(apikey_create('gone-' || i, subject => 'user-0')) FROM generate_series(1, 300) AS i;
RESET ROLE;
DELETE FROM apikey_key WHERE subject = 'user-0';
SELECT * FROM regress_subjects();
ROLLBACK;
-- a pepper that is there
\set pepper `umask 077; file=$(mktemp /tmp/apikey_regress_XXXXXX); printf 'a pepper of the regression tests, of 32 bytes at least\n' >"$file"; echo "$file"`
SET apikey.pepper_file = :'pepper';
SELECT severity, value, hint FROM apikey_health() WHERE name = 'pepper';
RESET apikey.pepper_file;
\setenv PEPPER :pepper
\! rm "$PEPPER"

-- Who may: whom the statistics are granted to.
\set VERBOSITY sqlstate
SET ROLE regress_apikey_anna;
SELECT count(*) FROM apikey_health();
SELECT count(*) FROM apikey_stats_codes;
SELECT count(*) FROM apikey_peppers;
SELECT count(*) FROM _apikey_stats_codes();
SELECT count(*) FROM _apikey_peppers();
RESET ROLE;
SELECT apikey_grant('stats', 'regress_apikey_anna');
SET ROLE regress_apikey_anna;
SELECT (SELECT count(*) FROM apikey_health()), (SELECT count(*) FROM apikey_stats_codes), (SELECT count(*) FROM apikey_peppers), (SELECT count(*) FROM apikey_stats);
SET ROLE regress_apikey_watch;
SELECT (SELECT count(*) FROM apikey_health()), (SELECT count(*) FROM apikey_stats_codes), (SELECT count(*) FROM apikey_peppers), (SELECT count(*) FROM apikey_stats);
RESET ROLE;
SELECT apikey_ungrant('stats', 'regress_apikey_anna');
SET ROLE regress_apikey_anna;
SELECT count(*) FROM apikey_health();
SELECT count(*) FROM apikey_stats_codes;
SELECT count(*) FROM apikey_peppers;
RESET ROLE;
-- one of the views alone
GRANT SELECT ON apikey_peppers TO regress_apikey_anna;
SET ROLE regress_apikey_anna;
SELECT count(*) FROM apikey_peppers;
SELECT count(*) FROM apikey_stats_codes;
RESET ROLE;
\set VERBOSITY default

\c contrib_regression
DROP DATABASE regress_apikey_health;
DROP ROLE regress_apikey_watch, regress_apikey_anna, regress_apikey_gone;
