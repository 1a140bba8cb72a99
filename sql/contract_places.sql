-- The contract, sections 1 and 2, by a program that knows only that: principals,
-- organizations, projects, members, and who may do what.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_adam;
CREATE ROLE regress_apikey_dora;
CREATE ROLE regress_apikey_mona;
CREATE ROLE regress_apikey_zoe;
CREATE ROLE regress_apikey_team;
CREATE ROLE regress_apikey_teamster IN ROLE regress_apikey_team;
CREATE ROLE regress_apikey_reader BYPASSRLS;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_olga, regress_apikey_zoe;
-- What a query says: its value, or the SQLSTATE and message, and what is at fault.
CREATE FUNCTION regress_try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	col text;
	rule text;
BEGIN
	EXECUTE query INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS col = COLUMN_NAME, rule = CONSTRAINT_NAME;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(col, ''), nullif(rule, ''));
END $$;

-- Organizations: the creator becomes the owner; one namespace; names
SET ROLE regress_apikey_olga;
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_organization_create('acme') IS NOT NULL$$),
	(2, $$SELECT role FROM apikey_organizations WHERE name = 'acme'$$),
	(3, $$SELECT apikey_organization_create('acme')$$),
	(4, $$SELECT apikey_organization_create(NULL)$$),
	(5, $$SELECT apikey_organization_create('')$$),
	(6, $$SELECT apikey_organization_create('Acme')$$),
	(7, $$SELECT apikey_organization_create('-acme')$$),
	(8, $$SELECT apikey_organization_create('ac_me')$$),
	(9, $$SELECT apikey_organization_create(repeat('a', 65))$$),
	(10, $$SELECT apikey_organization_create(repeat('a', 64)) IS NOT NULL$$),
	(11, $$SELECT apikey_organization_create('0-') IS NOT NULL$$),
	(12, $$SELECT apikey_organization_drop('0-', '0-')$$),
	(13, $$SELECT apikey_project_create('acme/payments')$$),
	(14, $$SELECT apikey_project_create('acme/payments')$$),
	(15, $$SELECT apikey_project_create('acme')$$),
	(16, $$SELECT apikey_project_create('acme/')$$),
	(17, $$SELECT apikey_project_create('acme/a/b')$$),
	(18, $$SELECT apikey_project_create('acme/Pay')$$),
	(19, $$SELECT apikey_project_create(NULL)$$),
	(20, $$SELECT apikey_project_create('acme/null', NULL)$$),
	(21, $$SELECT apikey_project_create('nobody/there')$$),
	(22, $$SELECT apikey_project_create('acme/default', true) ~ '^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$'$$),
	(23, $$SELECT concat_ws(' ', name, project, role, vouched_by) FROM apikeys WHERE project = 'acme/default'$$),
	(24, $$SELECT path || ' ' || role FROM apikey_projects WHERE path = 'acme/payments'$$),
	(25, $$SELECT concat_ws(' ', path, member, subject, role, created_by) FROM apikey_members WHERE path = 'acme'$$)
	) AS q (n, query) ORDER BY n;
-- who may not make organizations is told so, whatever there is
SET ROLE regress_apikey_mona;
SELECT regress_try($$SELECT apikey_organization_create('acme')$$);
-- no such place, or none that the caller may know of: one text
SET ROLE regress_apikey_zoe;
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_project_create('acme/new')$$),
	(2, $$SELECT apikey_project_create('none/new')$$),
	(3, $$SELECT apikey_member_add('acme', 'regress_apikey_zoe', 'owner')$$),
	(4, $$SELECT apikey_member_add('none', 'regress_apikey_zoe', 'owner')$$),
	(5, $$SELECT apikey_member_add('acme/payments', 'regress_apikey_zoe', 'owner')$$),
	(6, $$SELECT apikey_member_add('acme/none', 'regress_apikey_zoe', 'owner')$$),
	(7, $$SELECT apikey_member_remove('acme', 'regress_apikey_olga')$$),
	(8, $$SELECT apikey_organization_drop('acme', 'acme')$$),
	(9, $$SELECT apikey_organization_drop('none', 'none')$$),
	(10, $$SELECT apikey_project_drop('acme/payments', 'acme/payments')$$),
	(11, $$SELECT apikey_project_drop('acme/none', 'acme/none')$$),
	(12, $$SELECT apikey_project_apply('acme/payments')$$),
	(13, $$SELECT apikey_project_apply('acme/none')$$),
	(14, $$SELECT apikey_create('key', 'acme/payments')$$),
	(15, $$SELECT apikey_create('key', 'acme/none')$$),
	-- a name that is taken is taken, whoever has it
	(16, $$SELECT apikey_organization_create('acme')$$)
	) AS q (n, query) ORDER BY n;

-- Members: adding again changes the role
SET ROLE regress_apikey_olga;
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_member_add('acme/payments', 'regress_apikey_adam', 'developer')$$),
	(2, $$SELECT apikey_member_add('acme/payments', 'regress_apikey_adam', 'admin')$$),
	(3, $$SELECT count(*) || ' ' || max(role) FROM apikey_members WHERE member = 'regress_apikey_adam'::regrole$$),
	(4, $$SELECT apikey_member_add('acme/payments', 'regress_apikey_dora', 'developer')$$),
	(5, $$SELECT apikey_member_add('acme', 'regress_apikey_mona', 'developer')$$),
	(6, $$SELECT apikey_member_add('acme', 'regress_apikey_none', 'developer')$$),
	(7, $$SELECT apikey_member_add('acme', '4294967294', 'developer')$$),
	(8, $$SELECT apikey_member_add('acme', '-', 'developer')$$),
	(9, $$SELECT apikey_member_remove('acme', '4294967294')$$),
	(10, $$SELECT apikey_member_remove('acme', '-')$$),
	(11, $$SELECT apikey_member_remove('acme', 'regress_apikey_zoe')$$),
	(12, $$SELECT apikey_member_add('acme', NULL, 'developer')$$),
	(13, $$SELECT apikey_member_add('acme', 'regress_apikey_zoe', NULL)$$),
	(14, $$SELECT apikey_member_add(NULL, 'regress_apikey_zoe', 'owner')$$),
	(15, $$SELECT apikey_member_remove('acme', NULL)$$),
	(16, $$SELECT apikey_member_remove(NULL, 'regress_apikey_zoe')$$),
	(17, $$SELECT apikey_member_add('acme', 'regress_apikey_zoe', 'owner', subject => '')$$),
	(18, $$SELECT apikey_member_add('acme', 'regress_apikey_zoe', 'boss')$$),
	-- the last owner
	(19, $$SELECT apikey_member_remove('acme', 'regress_apikey_olga')$$),
	(20, $$SELECT apikey_member_add('acme', 'regress_apikey_olga', 'admin')$$),
	(21, $$SELECT apikey_member_add('acme', 'regress_apikey_olga', 'owner')$$)
	) AS q (n, query) ORDER BY n;
RESET ROLE;
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_member_remove('acme', 'regress_apikey_olga')$$),
	(2, $$SELECT apikey_member_add('acme', 'regress_apikey_olga', 'admin')$$),
	-- a superuser is not told of what is not there either
	(3, $$SELECT apikey_member_remove('none', 'regress_apikey_olga')$$)
	) AS q (n, query) ORDER BY n;
-- only owners whose role exists count
CREATE ROLE regress_apikey_gone;
SELECT apikey_member_add('acme', 'regress_apikey_gone', 'owner');
DROP ROLE regress_apikey_gone;
SELECT regress_try($$SELECT apikey_member_remove('acme', 'regress_apikey_olga')$$);
SELECT regress_try($$SELECT bool_and(apikey_member_remove('acme', member)) FROM apikey_members WHERE member::text ~ '^\d'$$);

-- Who may do what: each of these as each of those
CREATE FUNCTION regress_may(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE query;
		RAISE EXCEPTION USING ERRCODE = 'YYYYY';
	EXCEPTION
		WHEN SQLSTATE 'YYYYY' THEN RETURN 'yes';
		WHEN OTHERS THEN RETURN SQLSTATE;
	END;
END $$;
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme/payments', 'regress_apikey_team', 'admin');
SELECT apikey_id(apikey_create('olgas', 'acme/payments')) AS olgas, apikey_id(apikey_create('low', 'acme/payments', role => 'developer')) AS low \gset
RESET ROLE;
SELECT apikey_transfer(:'low', 'regress_apikey_dora');
CREATE TABLE regress_roles (who text);
INSERT INTO regress_roles VALUES ('olga'), ('adam'), ('dora'), ('mona'), ('zoe'), ('teamster'), ('reader');
CREATE TABLE regress_acts (n int, act text, query text);
GRANT SELECT ON regress_acts, regress_roles TO PUBLIC;
INSERT INTO regress_acts VALUES
	(1, 'add member', $$SELECT apikey_member_add('acme/payments', 'regress_apikey_zoe', 'developer')$$),
	(2, 'remove member', $$SELECT apikey_member_remove('acme/payments', 'regress_apikey_dora')$$),
	(3, 'settings', $$UPDATE apikey_projects SET members_can_view = true WHERE path = 'acme/payments'$$),
	(4, 'drop', $$SELECT apikey_project_drop('acme/payments', 'acme/payments')$$),
	(5, 'apply', $$SELECT apikey_project_apply('acme/payments')$$),
	(6, 'create', $$SELECT apikey_create('new', 'acme/payments', role => 'developer')$$),
	(7, 'update', format($$UPDATE apikeys SET description = 'x' WHERE id = '%s'$$, :'low')),
	(8, 'rename', format($$SELECT apikey_rename('%s', 'lower')$$, :'low')),
	(9, 'rotate', format($$SELECT apikey_rotate('%s')$$, :'low')),
	(10, 'transfer', format($$SELECT apikey_transfer('%s', 'regress_apikey_adam')$$, :'low')),
	(11, 'disable', format($$SELECT apikey_disable('%s')$$, :'low')),
	(12, 'enable', format($$SELECT apikey_enable('%s')$$, :'low')),
	(13, 'revoke', format($$SELECT apikey_revoke('%s')$$, :'low')),
	(14, 'delete', format($$SELECT apikey_delete('%s', 'low')$$, :'low')),
	(15, 'reveal', format($$SELECT apikey_reveal('%s')$$, :'low')),
	-- above an admin's role: no more than these
	(16, 'disable above', format($$SELECT apikey_disable('%s')$$, :'olgas')),
	(17, 'revoke above', format($$SELECT apikey_revoke('%s')$$, :'olgas')),
	(18, 'delete above', format($$SELECT apikey_delete('%s', 'olgas')$$, :'olgas')),
	(19, 'rename above', format($$SELECT apikey_rename('%s', 'lower')$$, :'olgas')),
	(20, 'rotate above', format($$SELECT apikey_rotate('%s')$$, :'olgas')),
	(21, 'enable above', format($$SELECT apikey_enable('%s')$$, :'olgas')),
	(22, 'transfer above', format($$SELECT apikey_transfer('%s', 'regress_apikey_adam')$$, :'olgas')),
	(23, 'update above', format($$UPDATE apikeys SET description = 'x' WHERE id = '%s'$$, :'olgas')),
	(24, 'owner role', $$SELECT apikey_create('new', 'acme/payments', role => 'owner')$$);
CREATE TABLE regress_answers (n int, act text, who text, may text, sees bigint);
GRANT INSERT ON regress_answers TO PUBLIC;
SELECT format('SET ROLE regress_apikey_%s; INSERT INTO regress_answers SELECT n, act, %L, regress_may(query), (SELECT count(*) FROM apikeys WHERE project = ''acme/payments'') FROM regress_acts; RESET ROLE', who, who)
	FROM regress_roles \gexec
SELECT act, string_agg(may, ' ') FILTER (WHERE who = 'olga') AS olga, string_agg(may, ' ') FILTER (WHERE who = 'adam') AS adam,
		string_agg(may, ' ') FILTER (WHERE who = 'teamster') AS team, string_agg(may, ' ') FILTER (WHERE who = 'dora') AS dora,
		string_agg(may, ' ') FILTER (WHERE who = 'mona') AS mona, string_agg(may, ' ') FILTER (WHERE who = 'zoe') AS zoe,
		string_agg(may, ' ') FILTER (WHERE who = 'reader') AS reader
	FROM regress_answers GROUP BY n, act ORDER BY n;
SELECT who, max(sees) AS sees FROM regress_answers GROUP BY 1 ORDER BY 1;
SET ROLE regress_apikey_olga;
UPDATE apikey_projects SET members_can_view = true WHERE path = 'acme/payments';
SET ROLE regress_apikey_mona;
SELECT name FROM apikeys ORDER BY name;
SET ROLE regress_apikey_olga;
UPDATE apikey_projects SET members_can_view = false WHERE path = 'acme/payments';
-- An organization's role holds in each project; the higher of the two counts
SET ROLE regress_apikey_mona;
SELECT path, role FROM apikey_projects ORDER BY path;
SET ROLE regress_apikey_teamster;
SELECT path, role FROM apikey_projects ORDER BY path;
-- Everything is shown to who sees all, with no role of its own
SET ROLE regress_apikey_reader;
SELECT name, role FROM apikey_organizations ORDER BY name;
SELECT regress_try($$SELECT apikey_project_create('acme/readers')$$);

-- Settings of projects
SET ROLE regress_apikey_olga;
SELECT regress_try(format($$UPDATE apikey_projects SET %s WHERE path = 'acme/payments' RETURNING 'set'$$, change)) FROM (VALUES
	(1, $$members_can_view = NULL$$),
	(2, $$revealable = NULL$$),
	(3, $$name_pattern = repeat('a', 201)$$),
	(4, $$name_pattern = '('$$),
	(5, $$name_pattern = ''$$),
	(6, $$name_pattern = '[a-z ]+'$$),
	(7, $$max_ttl = '0'$$),
	(8, $$max_ttl = '-1 day'$$),
	(9, $$max_ttl = '90 days'$$),
	(10, $$max_keys = -1$$),
	(11, $$max_keys = 100$$),
	(12, $$terms = ''$$),
	(13, $$terms = 'I agree'$$),
	(14, $$path = 'acme/other'$$),
	(15, $$role = 'admin'$$),
	(16, $$created_at = now()$$),
	(17, $$revealable = true$$)
	) AS c (n, change) ORDER BY n;
-- a pattern is matched against the whole name, and does not let blanks in
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_create('Upper', 'acme/payments', accept_terms => 'I agree', expires_at => now() + interval '1 day')$$),
	(2, $$SELECT apikey_create('two words', 'acme/payments', accept_terms => 'I agree', expires_at => now() + interval '1 day')$$),
	(3, $$SELECT apikey_create('a', 'acme/payments', accept_terms => 'I agree', expires_at => now() + interval '1 day') IS NOT NULL$$),
	(4, $$SELECT apikey_create('b', 'acme/payments', accept_terms => 'I do not', expires_at => now() + interval '1 day')$$),
	(5, $$SELECT apikey_create('b', 'acme/payments', expires_at => now() + interval '1 day')$$),
	(6, $$SELECT apikey_create('b', 'acme/payments', accept_terms => 'I agree')$$),
	(7, $$SELECT apikey_create('b', 'acme/payments', accept_terms => 'I agree', expires_at => now() + interval '91 days')$$),
	(8, $$SELECT accepted_terms FROM apikeys WHERE name = 'a'$$),
	-- an older key: other columns stay writable, dates only within
	(9, $$UPDATE apikeys SET description = 'x' WHERE name = 'olgas' RETURNING 'set'$$),
	(10, $$UPDATE apikeys SET expires_at = now() + interval '91 days' WHERE name = 'olgas' RETURNING 'set'$$),
	(11, $$UPDATE apikeys SET starts_at = now() WHERE name = 'olgas' RETURNING 'set'$$),
	(12, $$SELECT apikey_project_apply('acme/payments')$$),
	(13, $$SELECT apikey_project_apply('acme/payments')$$),
	(14, $$SELECT bool_and(expires_at <= clock_timestamp() + interval '90 days') FROM apikeys WHERE project = 'acme/payments'$$),
	(15, $$UPDATE apikeys SET expires_at = NULL WHERE name = 'olgas' RETURNING 'set'$$),
	(16, $$UPDATE apikey_projects SET max_keys = 2 WHERE path = 'acme/payments' RETURNING 'set'$$),
	(17, $$SELECT apikey_create('b', 'acme/payments', accept_terms => 'I agree', expires_at => now() + interval '1 day')$$),
	(18, $$SELECT apikey_project_apply('acme/default')$$),
	(19, $$SELECT apikey_project_apply(NULL)$$)
	) AS q (n, query) ORDER BY n;

-- Dropping: the path is repeated; keys are revoked and removed; the trail stays
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_project_drop('acme/payments', 'payments')$$),
	(2, $$SELECT apikey_project_drop('acme/payments', NULL)$$),
	(3, $$SELECT apikey_project_drop(NULL, 'acme/payments')$$),
	(4, $$SELECT apikey_organization_drop('acme', 'Acme')$$),
	(5, $$SELECT apikey_organization_drop('acme', NULL)$$),
	(6, $$SELECT apikey_organization_drop('acme/payments', 'acme/payments')$$),
	(7, $$SELECT apikey_project_drop('acme', 'acme')$$),
	(8, $$SELECT apikey_project_drop('acme/payments', 'acme/payments')$$),
	(9, $$SELECT count(*) FROM apikeys WHERE project = 'acme/payments'$$),
	(10, $$SELECT count(*) FROM apikey_members WHERE path = 'acme/payments'$$),
	(11, $$SELECT string_agg(DISTINCT event, ' ') FROM apikey_events WHERE project = 'acme/payments' AND key_name = 'olgas'$$),
	(12, $$SELECT apikey_organization_drop('acme', 'acme')$$),
	(13, $$SELECT count(*) FROM apikey_organizations WHERE name = 'acme'$$),
	(14, $$SELECT apikey_organization_drop('acme', 'acme')$$),
	(15, $$SELECT count(*) FROM apikeys$$)
	) AS q (n, query) ORDER BY n;
SELECT apikey_organization_drop(name, name) IS NOT NULL AS dropped FROM apikey_organizations;

-- Subjects: the caller's is the setting's; a superuser's to name
SET ROLE regress_apikey_zoe;
SELECT regress_try($$SELECT set_config('apikey.subject_setting', 'app.uid', false)$$);
RESET ROLE;
SET apikey.subject_setting = 'app.uid';
SET app.uid = 'u1';
SET ROLE regress_apikey_zoe;
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_create('one') IS NOT NULL$$),
	(2, $$SELECT apikey_create('two', subject => 'u2')$$),
	(3, $$SELECT apikey_create('two', subject => 'u1') IS NOT NULL$$),
	(4, $$SELECT string_agg(name || ' ' || subject, ', ' ORDER BY name) FROM apikeys$$),
	(5, $$SELECT set_config('app.uid', 'u2', false)$$)
	) AS q (n, query) ORDER BY n;
SELECT count(*) FROM apikeys;
SET app.uid = '';
SELECT count(*) FROM apikeys;
SELECT apikey_create('none') IS NOT NULL AS created;
SELECT name, subject FROM apikeys;
RESET ROLE;
-- a member of a JSON setting
SET apikey.subject_setting = 'request.jwt.claims:sub';
SET ROLE regress_apikey_zoe;
CREATE TEMP TABLE claims (n int, claims text);
INSERT INTO claims VALUES (1, '{"sub": "u1"}'), (2, '{"sub": null}'), (3, '{}'), (4, ''), (5, '{"sub": ""}'), (6, '{"sub": 7}'),
	(7, '{"sub": {"a": 1}}'), (8, '[1]'), (9, '{"sub"'), (10, '{"sub": true}'), (11, '{"sub": "u1"} x');
SELECT n, claims, regress_try(format($$SELECT string_agg(k.name, ', ' ORDER BY name) FROM set_config('request.jwt.claims', %L, false), apikeys k$$, claims)) AS sees,
		regress_try($$SELECT apikey_purge('1 day')$$) AS purge
	FROM claims ORDER BY n;
RESET ROLE;
RESET apikey.subject_setting;
SELECT apikey_delete(id, name) FROM apikeys;
DELETE FROM apikey_event;
DROP TABLE regress_answers, regress_acts, regress_roles, claims;
DROP FUNCTION regress_may(text);
DROP FUNCTION regress_try(text);
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_olga, regress_apikey_zoe;
DROP ROLE regress_apikey_olga, regress_apikey_adam, regress_apikey_dora, regress_apikey_mona, regress_apikey_zoe,
	regress_apikey_teamster, regress_apikey_team, regress_apikey_reader;
