-- The names of dropped organizations: for a time their former owners' alone.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
CREATE ROLE regress_apikey_carol;
CREATE ROLE regress_apikey_team;
GRANT regress_apikey_team TO regress_apikey_carol;
GRANT EXECUTE ON FUNCTION apikey_organization_create(text) TO PUBLIC;
DELETE FROM apikey_name_hold;
SELECT apikey_id('') IS NULL AS loaded;
SELECT boot_val, unit, context FROM pg_settings WHERE name = 'apikey.name_hold';
SET apikey.name_hold = '30d';

SET ROLE regress_apikey_alice;
SELECT apikey_organization_create('held') IS NOT NULL AS created, apikey_project_create('held/pay');
SELECT apikey_member_add('held', 'regress_apikey_bob', 'admin'), apikey_member_add('held', 'regress_apikey_team', 'owner');
SELECT apikey_organization_create('there') IS NOT NULL AS created;
SELECT apikey_organization_drop('held', 'held');
RESET ROLE;
-- Taken, for an admin and for a stranger, and told as any name that is.
SET ROLE regress_apikey_bob;
CREATE FUNCTION pg_temp.refused(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text; detail text; hint text; column_name text; constraint_name text;
BEGIN
	RETURN 'created ' || (apikey_organization_create(name) IS NOT NULL);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		column_name = COLUMN_NAME, constraint_name = CONSTRAINT_NAME;
	RETURN concat_ws('|', sqlstate, replace(message, name, 'NAME'), detail, hint, column_name, constraint_name);
END
$$;
SELECT pg_temp.refused('held'), pg_temp.refused('held') = pg_temp.refused('there') AS as_any;
SELECT count(*) FROM apikey_organizations;
-- A member of a role that was an owner.
RESET ROLE;
SET ROLE regress_apikey_carol;
SELECT apikey_organization_create('held') IS NOT NULL AS created, apikey_project_create('held/pay');
-- A project's, for any owner of the organization.
SELECT apikey_member_add('held', 'regress_apikey_bob', 'owner');
SELECT apikey_project_drop('held/pay', 'held/pay');
RESET ROLE;
SET ROLE regress_apikey_bob;
SELECT apikey_project_create('held/pay');
SELECT apikey_organization_drop('held', 'held');
-- Not any more alice's, who was none of the last owners.
RESET ROLE;
SET ROLE regress_apikey_alice;
SELECT pg_temp.refused('held') LIKE '23505|%' AS taken;
RESET ROLE;
-- A superuser; then it is held for nobody any more.
SELECT apikey_organization_create('held') IS NOT NULL AS created;
SELECT count(*) FROM apikey_name_hold WHERE name = 'held';
-- Held no longer than it says.
SELECT apikey_organization_drop('held', 'held');
SELECT count(*), count(role) AS owners, min(until) - now() BETWEEN '29 days 23 hours' AND '30 days' AS days FROM apikey_name_hold
	WHERE name = 'held';
UPDATE apikey_name_hold SET until = now() - interval '1 second' WHERE name = 'held';
SET ROLE regress_apikey_bob;
SELECT apikey_organization_create('held') IS NOT NULL AS created;
RESET ROLE;
-- Not held.
SET apikey.name_hold = 0;
SET ROLE regress_apikey_bob;
SELECT apikey_organization_drop('held', 'held');
RESET ROLE;
SET ROLE regress_apikey_alice;
SELECT apikey_organization_create('held') IS NOT NULL AS created;
SET apikey.name_hold = 1;
RESET ROLE;
SET apikey.name_hold = '30d';

-- Of an application's users the former owner alone.
SET apikey.subject_setting = 'app.who';
SET ROLE regress_apikey_alice;
SET app.who = 'ann';
SELECT apikey_organization_create('subjects') IS NOT NULL AS created;
SELECT apikey_organization_drop('subjects', 'subjects');
SET app.who = 'ben';
SELECT pg_temp.refused('subjects') LIKE '23505|%' AS taken;
RESET app.who;
SELECT pg_temp.refused('subjects') LIKE '23505|%' AS taken;
SET app.who = 'ann';
SELECT pg_temp.refused('subjects');
RESET app.who;
RESET ROLE;
RESET apikey.subject_setting;

-- Rolled back, nothing is held or dropped; a role of the same name is not it.
SELECT apikey_organization_create('again') IS NOT NULL AS created;
BEGIN;
SELECT apikey_organization_drop('again', 'again');
ROLLBACK;
SELECT count(*) FROM apikey_name_hold WHERE name = 'again';
CREATE ROLE regress_apikey_dave;
SELECT apikey_member_add('again', 'regress_apikey_dave', 'owner');
SELECT apikey_organization_drop('again', 'again');
DROP ROLE regress_apikey_dave;
CREATE ROLE regress_apikey_dave;
SET ROLE regress_apikey_dave;
SELECT pg_temp.refused('again') LIKE '23505|%' AS taken;
RESET ROLE;
-- Nobody reads who held what.
SET ROLE regress_apikey_bob;
SELECT count(*) FROM apikey_name_hold;
RESET ROLE;

REVOKE EXECUTE ON FUNCTION apikey_organization_create(text) FROM PUBLIC;
SELECT apikey_organization_drop(name, name) FROM apikey_organization ORDER BY name;
DELETE FROM apikey_name_hold;
DELETE FROM apikey_event;
DROP FUNCTION pg_temp.refused(text);
DROP ROLE regress_apikey_alice, regress_apikey_bob, regress_apikey_carol, regress_apikey_team, regress_apikey_dave;
