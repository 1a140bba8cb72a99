-- Who may do what with each object; the owner itself is left out.
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object,
	   coalesce((SELECT string_agg(CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END || ' ' || privilege_type, ', '
				ORDER BY privilege_type)
			FROM aclexplode(CASE classid
				WHEN 'pg_class'::regclass THEN (SELECT relacl FROM pg_class WHERE oid = objid)
				WHEN 'pg_proc'::regclass THEN (SELECT coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE oid = objid)
				WHEN 'pg_type'::regclass THEN (SELECT coalesce(typacl, acldefault('T', typowner)) FROM pg_type WHERE oid = objid) END) AS a
			WHERE grantee <> grantor), 'nobody') AS privileges
	FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'apikey')
	  AND (classid <> 'pg_type'::regclass OR objid IN (SELECT oid FROM pg_type WHERE typtype = 'e'))
	ORDER BY 1;
-- Each table has a primary key and row-level security.
SELECT c.relname, c.relrowsecurity, i.indexrelid::regclass AS primary_key, count(p.oid) AS policies
	FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass AND c.relkind = 'r'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'apikey'
	LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
	LEFT JOIN pg_policy p ON p.polrelid = c.oid
	GROUP BY 1, 2, 3 ORDER BY 1;

CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_outsider;
CREATE ROLE regress_apikey_reader IN ROLE pg_read_all_data;
CREATE ROLE regress_apikey_writer IN ROLE pg_read_all_data, pg_write_all_data;
CREATE ROLE regress_apikey_backup BYPASSRLS IN ROLE pg_read_all_data;
SET ROLE regress_apikey_alice;
SELECT apikey_create('mine') AS key \gset
RESET ROLE;
ANALYZE apikey_key, apikey_digest;

CREATE FUNCTION regress_attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE query;
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN n || ' rows';	-- rolled back
	WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE attempts (n serial, query text);
INSERT INTO attempts (query) VALUES
	('SELECT FROM apikeys'),
	('SELECT FROM apikey_key'),
	('SELECT FROM apikey_digest'),
	('LOCK TABLE apikeys IN ACCESS EXCLUSIVE MODE'),
	('LOCK TABLE apikey_projects IN SHARE MODE'),
	('SELECT FROM apikey_stats'),
	('SELECT FROM apikey_event'),
	('SELECT FROM apikey_member'),
	('SELECT apikey_organization_create(''mine'')'),
	('INSERT INTO apikey_event (at, event, actor, actor_oid) VALUES (now(), ''created'', ''x'', 1)'),
	('UPDATE apikey_event SET actor = ''x'''),
	('DELETE FROM apikey_event'),
	('SELECT nextval(''apikey_event_id_seq'')'),
	('INSERT INTO apikey_member SELECT gen_random_uuid(), gen_random_uuid(), NULL, NULL, current_user::regrole, ''x'', ''owner'', now(), ''x'''),
	('SELECT digest FROM apikey_digest'),
	('COPY apikey_digest TO STDOUT'),
	('INSERT INTO apikey_digest VALUES (gen_random_uuid(), sha256(''''), 0)'),
	('INSERT INTO apikey_key (id, owner, disabled, created_at, owner_name, prefix, last_four, name, scopes, metadata)
		VALUES (gen_random_uuid(), 1, false, now(), ''x'', ''x'', ''x'', ''x'', ''{}'', ''{}'')'),
	('UPDATE apikey_key SET owner = current_user::regrole'),
	('UPDATE apikey_digest SET digest = sha256('''')'),
	('DELETE FROM apikey_key'),
	('DELETE FROM apikey_digest'),
	('TRUNCATE apikey_key'),
	('SELECT FROM apikey_key FOR UPDATE'),
	('LOCK apikey_key'),
	('CREATE TABLE pg_temp.t (LIKE apikey_key INCLUDING ALL)'),
	('CREATE TRIGGER t BEFORE INSERT ON apikey_key EXECUTE FUNCTION suppress_redundant_updates_trigger()'),
	('ALTER TABLE apikey_key DISABLE ROW LEVEL SECURITY'),
	('DROP EXTENSION apikey'),
	('SELECT DISTINCT tablename FROM pg_stats WHERE tablename IN (''apikey_key'', ''apikey_digest'')'),
	('CREATE TRIGGER t INSTEAD OF UPDATE ON apikeys FOR EACH ROW EXECUTE FUNCTION _apikey_write()');
GRANT SELECT ON attempts TO PUBLIC;
CREATE TEMP TABLE results (role name, n int, result text);
GRANT INSERT ON results TO PUBLIC;
SET ROLE regress_apikey_alice;
INSERT INTO results SELECT current_user, n, regress_attempt(query) FROM attempts;
SET ROLE regress_apikey_outsider;
INSERT INTO results SELECT current_user, n, regress_attempt(query) FROM attempts;
SET ROLE regress_apikey_reader;
INSERT INTO results SELECT current_user, n, regress_attempt(query) FROM attempts;
SET ROLE regress_apikey_writer;
INSERT INTO results SELECT current_user, n, regress_attempt(query) FROM attempts;
SET ROLE regress_apikey_backup;
INSERT INTO results SELECT current_user, n, regress_attempt(query) FROM attempts;
RESET ROLE;
SELECT left(query, 60) AS query,
	   min(result) FILTER (WHERE role = 'regress_apikey_alice') AS owner,
	   min(result) FILTER (WHERE role = 'regress_apikey_outsider') AS outsider,
	   min(result) FILTER (WHERE role = 'regress_apikey_reader') AS reader,
	   min(result) FILTER (WHERE role = 'regress_apikey_writer') AS writer,
	   min(result) FILTER (WHERE role = 'regress_apikey_backup') AS backup
	FROM attempts JOIN results USING (n) GROUP BY n, query ORDER BY n;
-- The statistics are for whom they are granted to.
GRANT SELECT ON apikey_stats TO regress_apikey_outsider;
SET ROLE regress_apikey_outsider;
SELECT count(*), bool_and(peppers IS NOT NULL) FROM apikey_stats;
RESET ROLE;
REVOKE SELECT ON apikey_stats FROM regress_apikey_outsider;
-- Of the views one may UPDATE columns only.
SELECT attrelid::regclass AS view, string_agg(attname || ' ' || privilege_type, ', ' ORDER BY attnum) AS everybody
	FROM pg_attribute, aclexplode(attacl)
	WHERE attrelid IN ('apikeys'::regclass, 'apikey_projects'::regclass) AND grantee = 0
	GROUP BY 1 ORDER BY 1;
-- No digest is in the statistics, not even for superusers.
SELECT attname FROM pg_stats WHERE tablename = 'apikey_digest' ORDER BY 1;
-- Nothing of all that did anything.
SELECT code FROM apikey_verify(:'key', owner => 'regress_apikey_alice');
DROP TABLE attempts, results;
DROP FUNCTION regress_attempt;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_alice, regress_apikey_outsider, regress_apikey_reader, regress_apikey_writer, regress_apikey_backup;
