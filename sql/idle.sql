-- A project's max_idle: who sets it, what it may be, from when it counts.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
GRANT EXECUTE ON FUNCTION apikey_organization_create(text) TO PUBLIC;
SET ROLE regress_apikey_alice;
SELECT apikey_organization_create('quiet') IS NOT NULL AS created, apikey_project_create('quiet/web');
SELECT apikey_member_add('quiet/web', 'regress_apikey_bob', 'admin');
SELECT max_idle, max_idle_at FROM apikey_projects;

UPDATE apikey_projects SET max_idle = '90 days' WHERE path = 'quiet/web';
SELECT max_idle, max_idle_at BETWEEN now() - interval '1 hour' AND clock_timestamp() AS from_now FROM apikey_projects;
-- The same again is no change, another value is one, and so is none.
SELECT max_idle_at AS before FROM apikey_projects \gset
UPDATE apikey_projects SET max_idle = '90 days';
SELECT max_idle_at = :'before' AS same FROM apikey_projects;
UPDATE apikey_projects SET max_idle = '3 months';
SELECT max_idle_at > :'before' AS moved FROM apikey_projects;
UPDATE apikey_projects SET max_idle = NULL;
SELECT max_idle, max_idle_at FROM apikey_projects;
RESET ROLE;
SELECT event, detail FROM apikey_events WHERE event = 'project_updated' AND project = 'quiet/web' ORDER BY id;

-- What it may be.
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text; detail text; column_name text; constraint_name text;
BEGIN
	EXECUTE statement;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
		column_name = COLUMN_NAME, constraint_name = CONSTRAINT_NAME;
	RETURN concat_ws('|', sqlstate, message, detail, column_name, constraint_name);
END
$$;
SET ROLE regress_apikey_alice;
SELECT value, pg_temp.refused(format('UPDATE apikey_projects SET max_idle = %L', value))
	FROM unnest(ARRAY['0', '-1 day', '101 years', '1 day -25 hours', '-1000000 months 30000010 days',
		'1 month -1 second', '100 years 1 second', '100 years', '1 second']) value;
SELECT pg_temp.refused('UPDATE apikey_projects SET max_idle_at = now()');
UPDATE apikey_projects SET max_idle = NULL;
-- An admin sees it and does not set it.
SET ROLE regress_apikey_bob;
SELECT path, max_idle FROM apikey_projects;
SELECT pg_temp.refused('UPDATE apikey_projects SET max_idle = ''1 day''');
RESET ROLE;

-- A project that comes from a dump begins anew.
INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable, max_idle, max_idle_at)
	SELECT gen_random_uuid(), organization, 'quiet/restored', now() - interval '1 year', false, false, '1 day', now() - interval '1 year'
		FROM apikey_project WHERE path = 'quiet/web';
INSERT INTO apikey_project (id, organization, path, created_at, members_can_view, revealable)
	SELECT gen_random_uuid(), organization, 'quiet/without', now() - interval '1 year', false, false
		FROM apikey_project WHERE path = 'quiet/web';
SELECT path, max_idle, max_idle_at > now() - interval '1 hour' AS anew FROM apikey_project WHERE path ~ '^quiet/' ORDER BY path;
SELECT tgname, tgenabled FROM pg_trigger WHERE tgname = 'apikey_project_restored';

SELECT apikey_organization_drop('quiet', 'quiet');
REVOKE EXECUTE ON FUNCTION apikey_organization_create(text) FROM PUBLIC;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
