-- Five people to try the console with, and an organization of the first.  For a
-- superuser, after setup.sql.
\set ON_ERROR_STOP on
INSERT INTO console.person (id, email, name) VALUES
	('u1', 'olga@example.com', 'Olga Ivanova'),
	('u2', 'anna@example.com', 'Anna Schmidt'),
	('u3', 'dora@example.com', '陈朵拉'),
	('u4', 'sam@example.com', 'Sam Stranger'),
	('u5', 'lee@example.com', 'Lee Leaving')
	ON CONFLICT DO NOTHING;

-- As the console would, for Olga.
SET apikey.subject_setting = 'console.subject';
SET console.subject = 'u1';
SET ROLE console;
SELECT count(*) = 0 AS new FROM auth.apikey_organizations \gset
\if :new
SELECT auth.apikey_organization_create('acme') \g /dev/null
SELECT auth.apikey_project_create('acme/web') \g /dev/null
SELECT auth.apikey_member_add('acme/web', 'console', 'admin', 'u2') \g /dev/null
SELECT auth.apikey_member_add('acme/web', 'console', 'developer', 'u3') \g /dev/null
SELECT auth.apikey_member_add('acme/web', 'console', 'admin', 'u5') \g /dev/null
\endif
RESET ROLE;
RESET apikey.subject_setting;
