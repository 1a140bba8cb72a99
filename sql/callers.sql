-- What our functions leave to their caller's session and transaction as it was.
\set own 'owner => CURRENT_USER::text::regrole'
-- The sequence that it used last
CREATE SEQUENCE mine START 41;
SELECT nextval('mine');
SELECT apikey_create('one') AS key, apikey_create('two', credits => 5) AS credited \gset
SELECT lastval(), currval('mine');
SELECT apikey_rename(apikey_id(:'key'), 'other');
SELECT nextval('mine'), lastval();
-- while ids of events rise by one, whoever else takes one
SELECT max(id) AS first FROM apikey_events \gset
SELECT nextval('apikey_event_id_seq') - :first AS taken;
SELECT apikey_disable(apikey_id(:'key')), apikey_enable(apikey_id(:'key'));
SELECT id - :first AS id, event FROM apikey_events WHERE id > :first ORDER BY id;
-- from where a restore, or a superuser, has set it
SELECT setval('apikey_event_id_seq', :first + 1000, false) - :first AS set;
SELECT apikey_disable(apikey_id(:'key'));
SELECT id - :first AS id, event FROM apikey_events WHERE id > :first + 10 ORDER BY id;
BEGIN;
SELECT setval('apikey_event_id_seq', 9223372036854775807);
SELECT apikey_enable(apikey_id(:'key'));	-- fail
ROLLBACK;
SELECT setval('apikey_event_id_seq', :first + 1001) - :first AS set;
SELECT apikey_enable(apikey_id(:'key'));
DROP SEQUENCE mine;

-- Its subtransactions, where verification writes without the library and that
-- fails: what is caught is undone, and nothing else is.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE 'not now' USING ERRCODE = 'data_exception'; END $$;
SELECT apikey_import('old', 'sha256', encode(sha256('from elsewhere'), 'hex')) IS NOT NULL AS imported;
CREATE TABLE said (what text);
CREATE FUNCTION try(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	INSERT INTO said VALUES ('before ' || left(key, 3));
	BEGIN
		INSERT INTO said VALUES ('in ' || left(key, 3));
		SELECT code INTO said FROM apikey_verify(key, owner => CURRENT_USER::text::regrole);
	EXCEPTION WHEN data_exception THEN
		said := 'caught';
	END;
	INSERT INTO said VALUES ('after ' || left(key, 3));
	RETURN said;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON apikey_credit FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON apikey_usage FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE UPDATE ON apikey_import FOR EACH ROW EXECUTE FUNCTION refuse();
BEGIN;
SELECT try(:'credited');
SAVEPOINT s;
SELECT try(:'key');
RELEASE s;
SELECT try('from elsewhere');
COMMIT;
SELECT what FROM said;
DROP TRIGGER refuse ON apikey_credit;
DROP TRIGGER refuse ON apikey_usage;
DROP TRIGGER refuse ON apikey_import;
SELECT try(:'credited'), try(:'key'), try('from elsewhere');
DROP TABLE said;
DROP FUNCTION try, refuse;
SELECT apikey_delete(id, name) FROM apikeys;
