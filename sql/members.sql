-- What somebody is in an organization or project is the same whether that has
-- few members, some more than are looked through, or many.
SET client_min_messages = warning;
CREATE ROLE regress_apikey_filler;
CREATE ROLE regress_apikey_deep;
CREATE ROLE regress_apikey_team IN ROLE regress_apikey_deep;
CREATE ROLE regress_apikey_anna IN ROLE regress_apikey_team;
CREATE ROLE regress_apikey_guest NOINHERIT IN ROLE regress_apikey_team;
CREATE ROLE regress_apikey_root SUPERUSER IN ROLE regress_apikey_deep;
CREATE ROLE regress_apikey_dba;
CREATE ROLE regress_apikey_busy;
CREATE ROLE regress_apikey_stranger;
DO $$
BEGIN
	EXECUTE format('ALTER DATABASE %I OWNER TO regress_apikey_dba', current_database());
	FOR i IN 1 .. 70 LOOP
		EXECUTE format('CREATE ROLE regress_apikey_group_%s ROLE regress_apikey_busy', i);
	END LOOP;
END $$;
CREATE TABLE sizes (name text, fillers int);
INSERT INTO sizes VALUES ('few', 2), ('some', 66), ('many', 150);
SELECT count(apikey_organization_create(name)), count(apikey_project_create(name || '/pay')) FROM sizes;
-- the rows of the others have subjects, which come before those without
INSERT INTO apikey_member (id, organization, project, subject, member, member_name, role, created_at, created_by)
	SELECT gen_random_uuid(), o.id, p.id, 'f' || i, 'regress_apikey_filler', 'regress_apikey_filler', 'developer', now(), 'test'
	FROM sizes s JOIN apikey_organization o USING (name) CROSS JOIN LATERAL (SELECT NULL UNION ALL SELECT id FROM apikey_project WHERE organization = o.id) p (id), generate_series(1, s.fillers) i;

-- What each is in the organization and, behind the slash, in the project.
CREATE FUNCTION standing(size text, who regrole, who_subject text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	organization uuid := (SELECT id FROM apikey_organization WHERE name = size);
	project uuid := (SELECT id FROM apikey_project WHERE path = size || '/pay');
	result text;
BEGIN
	PERFORM set_config('app.user', who_subject, true), set_config('role', who::text, true);
	result := concat_ws('/', COALESCE(_apikey_standing(organization, NULL)::text, '-'), COALESCE(_apikey_standing(organization, project)::text, '-'));
	PERFORM set_config('role', 'none', true);
	RETURN result;
END $$;
CREATE TABLE asked (who regrole, subject text);
INSERT INTO asked VALUES ('regress_apikey_anna', ''), ('regress_apikey_anna', 's'), ('regress_apikey_guest', 's'), ('regress_apikey_dba', ''), ('regress_apikey_busy', 's');
CREATE FUNCTION told() RETURNS TABLE (who text, few text, same boolean) LANGUAGE sql AS $$
	SELECT replace(a.who::text, 'regress_apikey_', '') || ' ' || a.subject, standing('few', a.who, a.subject),
		standing('few', a.who, a.subject) = ALL (SELECT standing(name, a.who, a.subject) FROM sizes)
	FROM asked a ORDER BY a.who::text, a.subject
$$;
CREATE FUNCTION add(place text, who regrole, as_role apikey_role, under text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT apikey_member_add(name || place, who, as_role, under) FROM sizes ORDER BY name
$$;
-- Another one of a row's role has come to its number, or back.
CREATE FUNCTION again(who regrole, under text, as_name text) RETURNS void LANGUAGE sql AS $$
	UPDATE apikey_member SET member_name = as_name WHERE member = who AND subject IS NOT DISTINCT FROM under
$$;
-- It is removed beside the row, as where somebody has that.
CREATE FUNCTION beside(who regrole, under text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
	SELECT gen_random_uuid(), id, now(), 'test', true, true FROM apikey_member WHERE member = who AND subject IS NOT DISTINCT FROM under
$$;

-- Without subjects in use, a row of any subject counts.
SELECT * FROM told();
SELECT add('/pay', 'regress_apikey_anna', 'developer') \g /dev/null
SELECT add('/pay', 'regress_apikey_group_70', 'developer') \g /dev/null
SELECT add('/pay', 'pg_database_owner', 'admin') \g /dev/null
SELECT * FROM told();
SELECT add('/pay', 'regress_apikey_team', 'admin', 'x') \g /dev/null
SELECT add('', 'regress_apikey_deep', 'developer') \g /dev/null
SELECT * FROM told();
SELECT add('/pay', 'regress_apikey_anna', 'owner', 'x') \g /dev/null
SELECT add('/pay', 'regress_apikey_anna', 'owner', 'y') \g /dev/null
SELECT * FROM told();
SELECT again('regress_apikey_anna', 'x', 'another') \g /dev/null
SELECT beside('regress_apikey_anna', 'y') \g /dev/null
SELECT * FROM told();
SELECT again('regress_apikey_anna', 'x', 'regress_apikey_anna') \g /dev/null
SELECT * FROM told();
SELECT add('/pay', 'regress_apikey_anna', 'developer', 'x') \g /dev/null
SELECT add('', 'regress_apikey_deep', 'owner') \g /dev/null
SELECT * FROM told();
-- who has been removed beside the row is added again, in a row of its own
SELECT add('/pay', 'regress_apikey_anna', 'owner', 'y') \g /dev/null
SELECT count(*) AS beside FROM apikey_revocation;
SELECT count(*), count(apikey_member_remove(name, 'regress_apikey_deep')) FROM sizes;
SELECT * FROM told();
SELECT count(*) FILTER (WHERE apikey_member_remove(name || '/pay', 'regress_apikey_anna', 'y')) AS removed,
	count(*) FILTER (WHERE apikey_member_remove(name || '/pay', 'regress_apikey_anna', 'z')) AS none FROM sizes;
SELECT * FROM told();

-- With subjects in use, only a row without one, or of one's own.
SET apikey.subject_setting = 'app.user';
SELECT * FROM told();
SELECT add('/pay', 'regress_apikey_anna', 'admin', 's') \g /dev/null
SELECT add('/pay', 'regress_apikey_group_70', 'owner', 's') \g /dev/null
SELECT add('', 'regress_apikey_deep', 'owner', 't') \g /dev/null
SELECT * FROM told();
SELECT add('', 'regress_apikey_deep', 'owner', 's') \g /dev/null
SELECT * FROM told();
SELECT beside('regress_apikey_deep', 's'), again('regress_apikey_group_70', 's', 'another') \g /dev/null
SELECT * FROM told();
DELETE FROM apikey_revocation;
SELECT add('', 'regress_apikey_deep', 'developer', 's') \g /dev/null
SELECT add('/pay', 'regress_apikey_team', 'owner') \g /dev/null
SELECT * FROM told();
RESET apikey.subject_setting;

-- A key is as its owner is, and goes to none but a member; a superuser is one by
-- what it was granted alone.
SELECT add('/pay', 'regress_apikey_team', 'developer') \g /dev/null
SELECT add('', 'regress_apikey_deep', 'admin', 's') \g /dev/null
SET ROLE regress_apikey_anna;
CREATE TEMP TABLE made AS SELECT apikey_create('a-key', name || '/pay', role => 'admin') AS key, name FROM (VALUES ('few'), ('some'), ('many')) s (name);
RESET ROLE;
SELECT code, role, count(*) FROM made, apikey_verify(key, project => name || '/pay') GROUP BY 1, 2 ORDER BY 1, 2;
CREATE FUNCTION hand_to(who regrole, under text DEFAULT NULL) RETURNS TABLE (result text, places bigint) LANGUAGE plpgsql AS $$
DECLARE
	key text;
	results text[];
BEGIN
	FOR key IN SELECT m.key FROM made m ORDER BY name LOOP
		BEGIN
			PERFORM apikey_transfer(apikey_id(key), who, under);
			results := results || 'done'::text;
		EXCEPTION WHEN OTHERS THEN
			results := results || SQLSTATE::text;
		END;
	END LOOP;
	RETURN QUERY SELECT r, count(*) FROM unnest(results) r GROUP BY 1 ORDER BY 1;
END $$;
SELECT * FROM hand_to('regress_apikey_stranger');
SELECT * FROM hand_to('regress_apikey_busy');
SELECT code, role, count(*) FROM made, apikey_verify(key, project => name || '/pay') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM hand_to('regress_apikey_dba');
SELECT * FROM hand_to('regress_apikey_root');
SELECT count(*) FROM (SELECT apikey_member_remove(name, 'regress_apikey_deep', u) FROM sizes, unnest('{s,t}'::text[]) u) r;
SELECT * FROM hand_to('regress_apikey_root');
SELECT code, role, count(*) FROM made, apikey_verify(key, project => name || '/pay') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM (SELECT apikey_member_remove(name || '/pay', 'regress_apikey_anna', u) FROM sizes, unnest('{NULL,x,s}'::text[]) u) r;
SELECT * FROM hand_to('regress_apikey_anna');
SELECT code, role, count(*) FROM made, apikey_verify(key, project => name || '/pay') GROUP BY 1, 2 ORDER BY 1, 2;

-- The index of what roles are is read where there are many members, and subjects
-- are not in use.
CREATE FUNCTION scans(size text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before bigint := pg_stat_get_xact_numscans('apikey_member_place'::regclass);
BEGIN
	PERFORM standing(size, 'regress_apikey_stranger', 's');
	RETURN pg_stat_get_xact_numscans('apikey_member_place'::regclass) - before;
END $$;
SELECT name, scans(name) FROM sizes ORDER BY fillers;
SET apikey.subject_setting = 'app.user';
SELECT name, scans(name) FROM sizes ORDER BY fillers;
RESET apikey.subject_setting;

-- An organization keeps an owner, however many others it has.
SELECT apikey_member_remove('many', session_user::regrole);
SELECT apikey_member_add('many', session_user::regrole, 'admin');
SELECT apikey_member_add('many', 'regress_apikey_anna', 'owner'), apikey_member_remove('many', session_user::regrole);

DROP FUNCTION standing, told, add, again, beside, hand_to, scans;
DROP TABLE made, asked;
DELETE FROM apikey_key;
SELECT count(apikey_organization_drop(name, name)) FROM sizes;
DROP TABLE sizes;
DO $$
BEGIN
	EXECUTE format('ALTER DATABASE %I OWNER TO %I', current_database(), session_user);
	FOR i IN 1 .. 70 LOOP
		EXECUTE format('DROP ROLE regress_apikey_group_%s', i);
	END LOOP;
END $$;
DROP ROLE regress_apikey_filler, regress_apikey_anna, regress_apikey_guest, regress_apikey_root, regress_apikey_team, regress_apikey_deep, regress_apikey_dba, regress_apikey_busy, regress_apikey_stranger;
