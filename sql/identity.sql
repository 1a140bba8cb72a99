-- Who is calling: identity inside the transaction, and policies that ask for it.
SET client_min_messages = warning;
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_app;		-- the application, and what its users may do
SELECT current_user AS superuser \gset
CREATE ROLE regress_apikey_mallory LOGIN IN ROLE regress_apikey_app;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_olga, regress_apikey_mallory;

SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('regress') \g /dev/null
SELECT apikey_project_create('regress/pay'), apikey_project_create('regress/web') \g /dev/null
SELECT apikey_member_add('regress/pay', 'regress_apikey_alice', 'admin') \g /dev/null
SELECT apikey_create('reader', 'regress/pay', scopes => '{invoices:read}', role => 'developer') AS reader \gset
SELECT apikey_create('writer', 'regress/pay', scopes => '{invoices:*}', subject => 'user-17', metadata => '{"plan": "pro"}') AS writer \gset
SELECT apikey_create('other', 'regress/web', scopes => '{*}') AS other \gset
SET ROLE regress_apikey_alice;
SELECT apikey_create('mine', scopes => '{docs:read}', subject => 'user-17') AS mine \gset
RESET ROLE;

-- What the transaction is known as, by its keys' names, and the rest of it.
CREATE VIEW who AS SELECT k.name AS key, w.* FROM (SELECT
	apikey_current_project() AS project, apikey_current_owner() AS owner, apikey_current_subject() AS subject,
	apikey_current_role() AS role, apikey_current_scopes() AS scopes, apikey_current_metadata() AS metadata) w
	LEFT JOIN apikey_key k ON k.id = apikey_current_key();
GRANT SELECT ON who TO PUBLIC;
CREATE FUNCTION attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text; detail text; hint text; context text;
BEGIN
	EXECUTE query;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
		context = PG_EXCEPTION_CONTEXT;
	RETURN concat_ws('|', SQLSTATE, message, detail, nullif(hint, ''));
END $$;

--
-- A transaction has an identity from its authentication to its end
--

-- nobody
SELECT * FROM who;
SELECT apikey_current_key() IS NULL AS nobody, apikey_has_scope('invoices:read'), apikey_has_scope(NULL);
BEGIN;
SELECT apikey_authenticate(:'writer', project => 'regress') = apikey_id(:'writer') AS authenticated;
SELECT * FROM who;
SELECT apikey_has_scope('invoices:read') AS granted, apikey_has_scope('invoices:read', 'regress/pay') AS in_project,
	apikey_has_scope('invoices:read', 'regress') AS in_organization, apikey_has_scope('invoices:read', 'regress/web') AS elsewhere,
	apikey_has_scope('invoices:read', 'regress/pa') AS in_half, apikey_has_scope('invoices:read', '') AS in_empty,
	apikey_has_scope('users:read') AS not_granted, apikey_has_scope('invoices') AS stem, apikey_has_scope(NULL) AS unknown,
	apikey_has_scope('') AS empty;
COMMIT;
SELECT * FROM who;
-- each ending ends it
BEGIN;
SELECT apikey_authenticate_digest(left(:'reader', -39), sha256(:'reader'), project => 'regress/pay') = apikey_id(:'reader') AS authenticated;
SELECT key, role, subject, metadata FROM who;
COMMIT AND CHAIN;
SELECT key FROM who;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
ROLLBACK AND CHAIN;
SELECT key FROM who;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
SELECT 1 / 0;
ROLLBACK;
SELECT key FROM who;
BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
PREPARE TRANSACTION 'regress_apikey';
SELECT key FROM who;
COMMIT PREPARED 'regress_apikey';
SELECT key FROM who;
-- without a transaction block, the statement's end does
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
SELECT key FROM who;
-- so does each COMMIT of a procedure
CREATE TABLE trace (n serial, key text);
CREATE PROCEDURE two_transactions(api_key text) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_authenticate(api_key, project => 'regress');
	INSERT INTO trace (key) SELECT key FROM who;
	COMMIT;
	INSERT INTO trace (key) SELECT key FROM who;
END $$;
CALL two_transactions(:'reader');
SELECT key FROM trace ORDER BY n;
-- what is deferred to the commit still knows it, and a held cursor is filled by then
CREATE FUNCTION note_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO trace (key) SELECT 'deferred: ' || key FROM who;
	RETURN NULL;
END $$;
CREATE TABLE watched (n integer);
CREATE CONSTRAINT TRIGGER note AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION note_key();
BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
INSERT INTO watched VALUES (1);
DECLARE held CURSOR WITH HOLD FOR SELECT key FROM who;
COMMIT;
SELECT key FROM trace ORDER BY n;
FETCH held;
CLOSE held;
DISCARD ALL;
SET client_min_messages = warning;
SELECT key FROM who;

--
-- Savepoints
--

BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
SAVEPOINT a;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
SELECT apikey_authenticate(:'other', project => 'regress') \g /dev/null
SELECT key FROM who;
-- fail: a refusal
SELECT apikey_authenticate(:'writer', project => 'regress', scopes => '{users:read}');
ROLLBACK TO a;
SELECT key FROM who;
-- handed on by a release, of the inner one too
SAVEPOINT b;
SAVEPOINT c;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
RELEASE c;
SELECT key FROM who;
ROLLBACK TO b;
SELECT key FROM who;
SAVEPOINT c;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
RELEASE b;
SELECT key FROM who;
ROLLBACK TO a;
SELECT key FROM who;
ROLLBACK;
-- only inside a savepoint
BEGIN;
SAVEPOINT a;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
ROLLBACK TO a;
SELECT key FROM who;
COMMIT;
-- blocks with EXCEPTION are savepoints; a refusal leaves what was
CREATE FUNCTION authenticate_or_fail(api_key text, fails boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_authenticate(api_key, project => 'regress');
	IF fails THEN
		RAISE division_by_zero;
	END IF;
	RETURN (SELECT key FROM who);
EXCEPTION WHEN division_by_zero OR invalid_authorization_specification THEN
	RETURN (SELECT 'failed, still ' || key FROM who);
END $$;
BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
SELECT authenticate_or_fail(:'writer', true);
SELECT authenticate_or_fail('nonsense', false);
SELECT authenticate_or_fail(:'writer', false);
SELECT key FROM who;
-- many in one transaction leave one behind
SELECT count(apikey_authenticate(CASE i % 2 WHEN 0 THEN :'reader' ELSE :'writer' END, project => 'regress')) FROM generate_series(1, 10000) i;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'apikey identity';
SELECT key FROM who;
COMMIT;
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'apikey identity';

--
-- Refused
--

SELECT apikey_create('ended') AS ended \gset
UPDATE apikeys SET expires_at = '2000-01-01' WHERE name = 'ended';
SELECT arguments, attempt(format('SELECT apikey_authenticate(%s)', replace(replace(replace(arguments, 'WRITER', quote_literal(:'writer')),
		'MINE', quote_literal(:'mine')), 'ENDED', quote_literal(:'ended')))) AS result
	FROM unnest(ARRAY[
		'NULL', '''''', '''nonsense''', 'WRITER || ''0''', ''' '' || WRITER', 'WRITER || '' ''', 'repeat(WRITER, 100)',
		'replace(WRITER, ''ak_'', ''bk_'')', 'apikey_create(''gone'', starts_at => ''9999-01-01'')',
		'ENDED', 'apikey_create(''gone'', allowed_ips => ''{192.0.2.0/24}'')',
		'WRITER, ''{users:read}'', ''regress''', 'WRITER, ''{NULL}'', ''regress''', 'WRITER, ''{""}'', ''regress''', 'WRITER, ''{}'', ''regress''',
		'WRITER, ''{invoices:read,invoices:write}'', ''regress''', 'WRITER, project => ''regress/web''', 'WRITER, project => ''regress''',
		'WRITER', 'MINE', 'MINE, owner => ''regress_apikey_alice''', 'MINE, project => ''regress''',
		'WRITER, owner => ''regress_apikey_alice''', 'WRITER, owner => ''regress_apikey_olga''',
		'WRITER, project => ''regress'', owner => ''regress_apikey_alice''', 'WRITER, project => ''regress'', owner => ''regress_apikey_olga''',
		'MINE, min_role => ''developer'', owner => ''regress_apikey_alice''',
		'WRITER, cost => -1', 'WRITER, cost => NULL', 'WRITER, cost => 0, project => ''regress''']) WITH ORDINALITY AS t(arguments, n)
	ORDER BY n;
SELECT apikey_delete(apikey_id(:'ended'), 'ended') \g /dev/null
SELECT attempt(format('SELECT apikey_authenticate_digest(%s)', replace(arguments, 'WRITER', quote_literal(:'writer')))) AS result
	FROM unnest(ARRAY['NULL, NULL', '''x'', ''x''', 'left(WRITER, -39), NULL', 'left(WRITER, -39), sha256(''x'')', 'WRITER, sha256(WRITER)',
		'left(WRITER, -39), sha256(WRITER)', 'left(WRITER, -39), sha256(WRITER), project => ''regress''']) WITH ORDINALITY AS t(arguments, n)
	ORDER BY n;
-- what is revoked is refused at once, in the same transaction too
BEGIN;
SELECT apikey_revoke(apikey_id(:'mine')) \g /dev/null
SELECT attempt(format('SELECT apikey_authenticate(%L, owner => ''regress_apikey_alice'')', :'mine'));
ROLLBACK;
SET apikey.pepper_file = '/nonexistent';
SELECT attempt(format('SELECT apikey_authenticate(%L, owner => ''regress_apikey_alice'')', :'mine'));
RESET apikey.pepper_file;

--
-- In policies on the application's own tables
--

CREATE TABLE invoices (id integer PRIMARY KEY, project text NOT NULL, amount integer);
INSERT INTO invoices SELECT i, CASE i % 2 WHEN 0 THEN 'regress/pay' ELSE 'regress/web' END, i FROM generate_series(1, 100) i;
ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON invoices FOR SELECT
	USING (apikey_has_scope('invoices:read', 'regress') AND project = apikey_current_project());
CREATE POLICY write ON invoices FOR ALL
	USING (apikey_has_scope('invoices:write', 'regress') AND project = apikey_current_project());
CREATE TABLE docs (id integer PRIMARY KEY, subject text NOT NULL);
INSERT INTO docs SELECT i, 'user-' || i FROM generate_series(1, 100) i;
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON docs FOR SELECT
	USING (apikey_current_owner() = 'regress_apikey_alice' AND subject = apikey_current_subject());
GRANT SELECT, INSERT, UPDATE, DELETE ON invoices, docs TO regress_apikey_app;
ANALYZE invoices, docs;

SET ROLE regress_apikey_app;
SELECT count(*) FROM invoices;
BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
SELECT count(*), min(project) FROM invoices;
UPDATE invoices SET amount = 0 WHERE id < 10;
SELECT count(*) FROM docs;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
SELECT count(*), min(project) FROM invoices;
UPDATE invoices SET amount = 0 WHERE id < 10;
-- fail: another project's row
INSERT INTO invoices VALUES (101, 'regress/web', 1);
ROLLBACK;
BEGIN;
SELECT apikey_authenticate(:'mine', owner => 'regress_apikey_alice') \g /dev/null
SELECT count(*) FROM invoices;
SELECT * FROM docs;
COMMIT;

-- a plan made for one identity serves the next, and nobody
SET plan_cache_mode = force_generic_plan;
PREPARE seen AS SELECT (SELECT count(*) FROM invoices) AS invoices, (SELECT count(*) FROM docs) AS docs, apikey_current_subject() AS subject;
CREATE FUNCTION pg_temp.seen() RETURNS bigint STABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM invoices); END';
BEGIN;
SELECT apikey_authenticate(:'reader', project => 'regress') \g /dev/null
EXECUTE seen;
SELECT pg_temp.seen();
SELECT apikey_authenticate(:'mine', owner => 'regress_apikey_alice') \g /dev/null
EXECUTE seen;
SELECT pg_temp.seen();
COMMIT;
EXECUTE seen;
SELECT pg_temp.seen();
RESET plan_cache_mode;

-- parallel plans give the same rows
RESET ROLE;
CREATE TABLE many AS SELECT i, i % 10 AS n, 'a:' || i % 10 AS scope FROM generate_series(1, 20000) i;
ALTER TABLE many SET (parallel_workers = 2);
ALTER TABLE many ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON many USING (apikey_has_scope(scope) OR apikey_current_subject() = 'user-' || n || '7');
GRANT SELECT ON many TO regress_apikey_app;
ANALYZE many;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(set_config(name, 'on', false)) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
CREATE FUNCTION workers(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Workers Planned' THEN
			RETURN 'parallel';
		END IF;
	END LOOP;
	RETURN 'not parallel';
END $$;
SET ROLE regress_apikey_app;
BEGIN;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
SELECT count(*), sum(n) FROM many;
SELECT workers('SELECT count(*), sum(n) FROM many'), workers('SELECT apikey_current_subject()');
-- asked once, the leader asks and the workers scan
RESET ROLE;
ALTER POLICY read ON many USING ((SELECT apikey_has_scope('invoices:x')) AND n = length((SELECT apikey_current_subject())));
SET ROLE regress_apikey_app;
SELECT workers('SELECT count(*), sum(n) FROM many');
SELECT count(*), sum(n) FROM many;
SELECT apikey_authenticate(:'other', project => 'regress') \g /dev/null
SELECT count(*), sum(n) FROM many;
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
RESET ROLE;
-- below the functions the plan is parallel, and they run in the leader
SELECT workers('SELECT DISTINCT apikey_current_owner(), n FROM many WHERE n > 7'), workers('SELECT count(*) FROM many');
SELECT DISTINCT apikey_current_owner(), apikey_has_scope('invoices:x'), n FROM many WHERE n > 7 ORDER BY n;
SELECT apikey_current_owner(), count(*) FROM many WHERE n > (SELECT length(apikey_current_subject())) GROUP BY 1;
COMMIT;
SELECT count(set_config(name, 'off', false)) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- it is the transaction's, whoever asks, and whoever authenticates for it
CREATE FUNCTION of_olga(api_key text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
	IF api_key IS NOT NULL THEN
		PERFORM apikey_authenticate(api_key, project => 'regress');
	END IF;
	RETURN (SELECT current_user || ': ' || key FROM who);
END $$;
ALTER FUNCTION of_olga OWNER TO regress_apikey_olga;
SET ROLE regress_apikey_app;
BEGIN;
SELECT of_olga(:'reader');
SELECT key, count(*) FROM who, invoices GROUP BY 1;
SELECT apikey_authenticate(:'mine', owner => 'regress_apikey_alice') \g /dev/null
SELECT of_olga(NULL);
-- it gives no right to manage keys
SELECT apikey_authenticate(:'writer', project => 'regress') \g /dev/null
SELECT count(*) FROM apikeys;
SELECT regexp_replace(attempt(query), '[0-9a-f-]{36}', 'ID') AS attempt FROM (VALUES
	(format('SELECT apikey_revoke(%L)', apikey_id(:'reader'))), (format('SELECT apikey_rename(%L, ''ours'')', apikey_id(:'writer'))),
	('SELECT apikey_create(''ours'', ''regress/pay'')'), ('SELECT apikey_member_add(''regress'', current_user::regrole, ''owner'')')) v(query);
COMMIT;
RESET ROLE;

--
-- An ordinary role cannot forge it
--

SET ROLE regress_apikey_mallory;
SELECT apikey_organization_create('regress-evil') \g /dev/null
SELECT apikey_project_create('regress-evil/pay') \g /dev/null
SELECT apikey_create('all', scopes => '{*}', subject => 'user-17') AS personal \gset
SELECT apikey_create('all', 'regress-evil/pay', scopes => '{*}', subject => 'user-17', metadata => '{"project": "regress/pay"}') AS elsewhere \gset
-- made a member without being asked, alice is handed a key whose text mallory keeps
SELECT apikey_member_add('regress-evil', 'regress_apikey_alice', 'owner') \g /dev/null
SELECT apikey_create('pushed', 'regress-evil/pay', scopes => '{*}', subject => 'user-17') AS pushed \gset
SELECT apikey_transfer(apikey_id(:'pushed'), 'regress_apikey_alice', 'user-17') \g /dev/null
RESET ROLE;
-- Runs a statement, then tells what can be seen; all of it is rolled back.
CREATE FUNCTION forge(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text := 'done';
	invoices integer;
	docs integer;
BEGIN
	BEGIN
		EXECUTE query;
	EXCEPTION WHEN OTHERS THEN
		state := SQLSTATE;
	END;
	EXECUTE 'SELECT count(*) FROM public.invoices' INTO invoices;
	EXECUTE 'SELECT count(*) FROM public.docs' INTO docs;
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN format('%s: %s, %s', state, invoices, docs);
	WHEN OTHERS THEN RETURN format('%s, then %s', state, SQLSTATE);
END $$;
CREATE SCHEMA planted AUTHORIZATION regress_apikey_mallory;
-- before the library is loaded in her session, a setting may have any name
\c - regress_apikey_mallory
SET client_min_messages = error;
SELECT right(forge('SELECT set_config(''apikey.current_key'', ''regress_apikey_alice'', true)'), 4) AS seen;
CREATE TEMP TABLE forgeries (n serial, query text);
-- settings of every likely name
INSERT INTO forgeries (query) SELECT format('SELECT set_config(%L, %L, true)', name, value)
	FROM unnest(ARRAY['apikey.current_key', 'apikey.key', 'apikey.identity', 'apikey.authenticated', 'apikey.current_owner', 'apikey.request_project',
		'apikey.subject_setting', 'apikey.pepper_file', 'request.apikey', 'request.jwt.claims', 'request.jwt.claim.sub', 'request.headers',
		'apikey_current_key', 'role', 'session_authorization', 'row_security', 'session_replication_role']) WITH ORDINALITY AS s(name, n),
	LATERAL (SELECT CASE name
		WHEN 'request.jwt.claims' THEN '{"sub": "user-17", "role": "regress_apikey_alice"}'
		WHEN 'request.headers' THEN '{"x-api-key": "", "apikey": "reader"}'
		WHEN 'role' THEN 'regress_apikey_alice' WHEN 'session_authorization' THEN 'regress_apikey_alice'
		WHEN 'row_security' THEN 'off' WHEN 'session_replication_role' THEN 'replica'
		ELSE 'regress_apikey_alice' END) v(value)
	ORDER BY n;
-- objects of our names, in front of ours
INSERT INTO forgeries (query) VALUES
	('CREATE FUNCTION pg_temp.apikey_has_scope(text, text) RETURNS boolean RETURN true'),
	('CREATE FUNCTION planted.apikey_has_scope(text, text DEFAULT NULL) RETURNS boolean RETURN true;
	  CREATE FUNCTION planted.apikey_current_project() RETURNS text RETURN ''regress/pay'';
	  CREATE FUNCTION planted.apikey_current_owner() RETURNS name RETURN ''regress_apikey_alice'';
	  CREATE FUNCTION planted.apikey_current_subject() RETURNS text RETURN ''user-17'';
	  SET LOCAL search_path = planted, pg_catalog, public'),
	('CREATE FUNCTION planted.always(text, text) RETURNS boolean RETURN true;
	  CREATE OPERATOR planted.= (LEFTARG = text, RIGHTARG = text, FUNCTION = planted.always);
	  SET LOCAL search_path = planted, pg_catalog, public'),
	('CREATE TEMP TABLE apikeys (id uuid); CREATE TEMP TABLE apikey_key (id uuid, scopes text[]); CREATE TEMP VIEW who AS SELECT 1'),
	('CREATE OR REPLACE FUNCTION public.apikey_has_scope(scope text, project text DEFAULT NULL) RETURNS boolean RETURN true'),
	('CREATE FUNCTION planted.identity() RETURNS void LANGUAGE c AS ''$libdir/apikey'', ''apikey_identity_set'''),
	('ALTER FUNCTION public.apikey_current_owner() RENAME TO mine'),
	('CREATE POLICY mine ON public.invoices USING (true)'),
	('ALTER TABLE public.invoices DISABLE ROW LEVEL SECURITY'),
	('SET SESSION AUTHORIZATION regress_apikey_alice'),
	('SET ROLE regress_apikey_alice');
-- keys that are not, or are worth no more than their owner
INSERT INTO forgeries (query) SELECT format('SELECT public.apikey_authenticate(%s)', argument) FROM unnest(ARRAY[
	format('overlay(%L PLACING ''%s'' FROM %s), project => ''regress''', :'writer', repeat('0', 33), length(:'writer') - 38),
	quote_literal(left(:'writer', -39)) || ', project => ''regress''', format('apikey_id(%L)::text, project => ''regress''', :'writer'),
	quote_literal(:'personal'), quote_literal(:'elsewhere'), quote_literal(:'personal') || ', project => ''regress''',
	quote_literal(:'elsewhere') || ', project => ''regress''', quote_literal(:'elsewhere') || ', project => ''regress-evil''',
	quote_literal(:'elsewhere') || ', owner => ''regress_apikey_alice''', quote_literal(:'pushed'), quote_literal(:'pushed') || ', project => ''regress''',
	quote_literal(:'pushed') || ', project => ''regress-evil''', quote_literal(:'pushed') || ', owner => ''regress_apikey_alice''',
	quote_literal(:'pushed') || ', project => ''regress'', owner => ''regress_apikey_alice''',
	quote_literal(:'pushed') || ', project => ''regress-evil'', owner => ''regress_apikey_alice''']) AS a(argument);
-- a key that was good in a subtransaction, or a statement, that is over
INSERT INTO forgeries (query) VALUES
	(format('SELECT public.apikey_authenticate_digest(%L, sha256(''x''), project => ''regress'')', left(:'writer', -39))),
	(format('DO %L', format('BEGIN BEGIN PERFORM public.apikey_authenticate(%L, project => ''regress''); RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN NULL; END; END', :'writer'))),
	(format('SELECT public.apikey_authenticate(%L, project => ''regress''), 1 / 0', :'writer'));
SELECT left(regexp_replace(regexp_replace(query, '[a-z]+_[0-9A-Za-z]{22,61}', 'KEY', 'g'), '\s+', ' ', 'g'), 90) AS forgery,
	forge(query) AS "result: invoices, docs"
	FROM forgeries ORDER BY n;
SET client_min_messages = warning;
-- a cheap function that tells what it sees does not see what the policy hides
CREATE FUNCTION pg_temp.tell(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS
	$$BEGIN RAISE WARNING 'told: %', $1; RETURN true; END$$;
BEGIN;
SELECT apikey_authenticate(:'personal') \g /dev/null
SELECT count(*) FROM invoices WHERE pg_temp.tell(project);
SELECT count(*) FROM docs WHERE pg_temp.tell(subject);
-- with the scope, and the subject, that it minted itself, but not with the owner
SELECT apikey_has_scope('invoices:read'), apikey_has_scope('invoices:read', 'regress'), apikey_current_subject(), apikey_current_owner(), apikey_current_role();
COMMIT;
\c - :superuser
SET client_min_messages = warning;

--
-- PostgREST's request
--

CREATE ROLE regress_apikey_anon;
-- A request as PostgREST makes it: read-only, by an anonymous role.
CREATE FUNCTION request(headers text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
BEGIN
	PERFORM set_config('request.headers', headers, true);
	PERFORM apikey_pre_request();
	result := coalesce((SELECT 'as ' || key FROM who), 'nobody');
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN result;
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		RETURN concat_ws('|', SQLSTATE, SQLERRM, detail);
END $$;
-- no such setting at all
\c -
SET client_min_messages = warning;
SET ROLE regress_apikey_anon;
BEGIN READ ONLY;
SELECT apikey_pre_request();
SELECT * FROM who;
COMMIT;
-- no key is good where nobody says whose, not even the caller's own
SELECT apikey_create('anon', scopes => '{*}') AS anon \gset
SELECT name, request(format('{"x-api-key": "%s"}', k)) AS result
	FROM unnest(ARRAY['project', 'personal', 'own'], ARRAY[:'writer', :'mine', :'anon']) AS u (name, k);
RESET ROLE;
SET apikey.request_project = 'regress';
SET ROLE regress_apikey_anon;
BEGIN READ ONLY;
SELECT header, request(replace(replace(header, 'WRITER', :'writer'), 'READER', :'reader')) AS result
	FROM unnest(ARRAY['', '{}', 'null', '[]', '"x"', '5', 'nonsense', '{"x-api-key"', '{"x-api-key": null}', '{"x-api-key": ""}',
		'{"x-api-key": {"x-api-key": "WRITER"}}', '[{"x-api-key": "WRITER"}]', '{"a": {"x-api-key": "WRITER"}}', '{"x-api-key": "\u0000"}',
		'{"x-api-key": "WRITER"}', '{"x-api-key": " WRITER "}', '{"x-api-key": "nonsense"}', '{"x-api-key": 5}', '{"x-api-key": true}',
		'{"x-api-key": "\u00e9\ud83d\ude00"}', '{"x-api-key": "WRITER, READER"}', '{"x-api-key": "READER", "x-api-key": "WRITER"}',
		'{"x-api-key": "READER", "authorization": "Bearer WRITER"}', '{"x-api-key": "", "authorization": "Bearer WRITER"}',
		'{"authorization": "Bearer WRITER"}', '{"authorization": "bearer  WRITER"}', '{"authorization": "BEARER WRITER", "host": "x"}',
		'{"authorization": "Bearer"}', '{"authorization": ""}', '{"authorization": "BearerWRITER"}', '{"authorization": "Basic WRITER"}',
		'{"authorization": "WRITER"}', '{"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig"}', '{"authorization": "Bearer WRITER0"}',
		'{"authorization": "Bearer WRITER "}']) WITH ORDINALITY AS t(header, n)
	ORDER BY n;
-- a key's shape with another checksum is a key, and a bad one
SELECT request(format('{"authorization": "Bearer %s"}', left(:'writer', -1) || CASE right(:'writer', 1) WHEN '0' THEN '1' ELSE '0' END));
-- long, deep
SELECT request(format('{"cookie": "%s", "x-api-key": "%s"}', repeat('x', 100000), :'writer')) AS long_header,
	request(format('{"x-api-key": "%s"}', repeat('x', 100000))) AS long_key,
	request(format('{"authorization": "Bearer %s"}', repeat('x', 100000))) AS long_token,
	request(format('{"x": %s, "x-api-key": "%s"}', repeat('[', 50000) || repeat(']', 50000), :'writer')) AS deep;
COMMIT;
-- the project that a superuser names, or the organization
SET apikey.request_project = 'regress/web';	-- fail
SET apikey.request_owner = 'regress_apikey_anon';	-- fail
RESET ROLE;
SET apikey.request_project = 'regress/pay';
SET ROLE regress_apikey_anon;
SELECT request(format('{"x-api-key": "%s"}', k)) FROM unnest(ARRAY[:'writer', :'other', :'mine', :'personal', :'elsewhere']) k;
RESET ROLE;
SET apikey.request_project = 'regress';
SET ROLE regress_apikey_anon;
SELECT request(format('{"x-api-key": "%s"}', k)) FROM unnest(ARRAY[:'writer', :'other', :'mine', :'personal', :'elsewhere']) k;
-- or the role, beside it or alone
RESET ROLE;
SET apikey.request_owner = 'regress_apikey_olga';
SET ROLE regress_apikey_anon;
SELECT request(format('{"x-api-key": "%s"}', k)) FROM unnest(ARRAY[:'writer', :'mine', :'personal', :'elsewhere', :'pushed']) k;
RESET ROLE;
RESET apikey.request_project;
SET ROLE regress_apikey_anon;
SELECT request(format('{"x-api-key": "%s"}', k)) FROM unnest(ARRAY[:'writer', :'mine', :'personal', :'elsewhere', :'pushed']) k;
RESET ROLE;
SET apikey.request_owner = 'regress_apikey_alice';
SET ROLE regress_apikey_anon;
SELECT request(format('{"x-api-key": "%s"}', k)) FROM unnest(ARRAY[:'writer', :'mine', :'personal', :'elsewhere', :'pushed']) k;
-- a role that there is not owns nothing
RESET ROLE;
SET apikey.request_owner = 'regress_apikey_nobody';
BEGIN;
SELECT set_config('request.headers', format('{"x-api-key": "%s"}', :'mine'), true) \g /dev/null
SELECT apikey_pre_request();	-- fail
ROLLBACK;
RESET apikey.request_owner;
-- each code its status
SET apikey.request_owner = 'regress_apikey_alice';
SET ROLE regress_apikey_alice;
SELECT apikey_create('later', scopes => '{a}', starts_at => '9999-01-01') AS later,
	apikey_create('early') AS early,
	apikey_create('place', allowed_ips => '{192.0.2.0/24}') AS place,
	apikey_create('off') AS off, apikey_create('gone') AS gone,
	apikey_create('left', 'regress/pay') AS "left" \gset
SELECT apikey_disable(apikey_id(:'off')), apikey_revoke(apikey_id(:'gone')) \g /dev/null
UPDATE apikeys SET expires_at = '2000-01-01' WHERE name = 'early';
RESET ROLE;
SELECT apikey_member_remove('regress/pay', 'regress_apikey_alice') \g /dev/null
SELECT request(format('{"x-api-key": "%s"}', k))
	FROM unnest(ARRAY[replace(:'writer', 'ak_', 'bk_'),
		:'gone', :'off', :'later', :'early', :'left', :'place']) k;
SET apikey.pepper_file = '/nonexistent';
SELECT request(format('{"x-api-key": "%s"}', :'writer'));
RESET apikey.pepper_file;
RESET apikey.request_owner;
-- the error tells the code
BEGIN;
SELECT set_config('request.headers', format('{"x-api-key": "%s"}', :'gone'), true) \g /dev/null
SELECT apikey_pre_request();	-- fail
ROLLBACK;

-- in a database that lacks characters, headers that escape one cannot be read
CREATE DATABASE regress_apikey_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
\c regress_apikey_latin1
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
SET apikey.request_owner = :'superuser';
SELECT apikey_create('latin') AS latin \gset
BEGIN;
SELECT set_config('request.headers', format('{"cookie": "\u4e2d", "x-api-key": "%s"}', :'latin'), true) \g /dev/null
SELECT apikey_pre_request();
SELECT apikey_current_key() IS NULL AS nobody;
SELECT set_config('request.headers', format('{"cookie": "\\u4e2d \" \u0041", "x-api-key": "%s"}', :'latin'), true) \g /dev/null
SELECT apikey_pre_request();
SELECT apikey_current_key() IS NULL AS nobody;
COMMIT;
\c contrib_regression
DROP DATABASE regress_apikey_latin1;
SET client_min_messages = warning;

DROP FUNCTION attempt, forge, request, workers, of_olga, authenticate_or_fail;
DROP PROCEDURE two_transactions;
DROP TABLE invoices, docs, many, watched, trace;
DROP FUNCTION note_key;
DROP VIEW who;
DROP SCHEMA planted CASCADE;
SELECT apikey_organization_drop('regress', 'regress'), apikey_organization_drop('regress-evil', 'regress-evil') \g /dev/null
SELECT count(apikey_delete(id, name)) FROM apikeys WHERE owner LIKE 'regress_apikey_%' AND name <> '' \g /dev/null
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_olga, regress_apikey_mallory;
DROP ROLE regress_apikey_olga, regress_apikey_alice, regress_apikey_mallory, regress_apikey_app, regress_apikey_anon;
