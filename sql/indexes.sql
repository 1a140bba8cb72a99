-- What is kept of indexes from row to row holds for those that are there when a
-- row is written, whatever was made, changed or removed in between.
\set SHOW_CONTEXT never
CREATE EXTENSION amcheck;
CREATE FUNCTION made(n text) RETURNS bigint LANGUAGE sql AS
	$$ SELECT count(apikey_create(n || '-' || i)) FROM generate_series(1, 3) i $$;
-- Every row is in every b-tree, or this raises.
CREATE FUNCTION complete() RETURNS boolean LANGUAGE sql AS $$
	SELECT count(bt_index_check(c.oid, true)) > 15 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
	WHERE amname = 'btree' AND indrelid IN ('apikey_key'::regclass, 'apikey_event'::regclass, 'apikey_digest'::regclass) $$;
SELECT made('before');

-- All are locked while a row is in them, whatever was rolled back before
CREATE FUNCTION locked() RETURNS boolean LANGUAGE sql AS $$
	SELECT bool_and(EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = indexrelid AND mode = 'RowExclusiveLock'))
	FROM pg_index WHERE indrelid IN ('apikey_key'::regclass, 'apikey_event'::regclass, 'apikey_digest'::regclass) $$;
BEGIN;
SAVEPOINT s;
SELECT made('lost'), locked();
ROLLBACK TO s;
SELECT locked();
SELECT made('kept'), locked();
RELEASE s;
SELECT made('more'), locked();
COMMIT;
SELECT locked();
DROP FUNCTION locked;

-- One more, in the middle of a transaction, and back
BEGIN;
SELECT made('one');
CREATE INDEX more_events ON apikey_event (key_name) WHERE event = 'created';
SELECT made('two');
SELECT complete();
SAVEPOINT s;
DROP INDEX more_events;
SELECT made('three');
ROLLBACK TO s;
SELECT made('three');
SELECT complete();
SAVEPOINT s;
CREATE INDEX more_keys ON apikey_key (upper(name)) WHERE name <> 'x';
SELECT made('four');
SELECT complete();
ROLLBACK TO s;
SELECT made('four');
COMMIT;
SELECT complete();
REINDEX INDEX CONCURRENTLY more_events;
SELECT made('five');
SELECT complete();
DROP INDEX more_events;
SELECT made('six');

-- With functions of others, and of other kinds
CREATE FUNCTION kind_of(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN split_part($1, '-', 1); END $$;
CREATE INDEX more_events ON apikey_event (kind_of(key_name)) WHERE kind_of(event) = 'created';
CREATE INDEX hashed_events ON apikey_event USING hash (key_name);
CREATE INDEX events_by_range ON apikey_event USING brin (at);
SELECT made('seven'), made('eight');
SELECT complete();
SET enable_seqscan = off;
SELECT key_name FROM apikey_event WHERE key_name = 'eight-2';
SELECT key_name FROM apikey_event WHERE at > now() - interval '1 hour' AND key_name ~ '^eight' ORDER BY 1;
RESET enable_seqscan;
DROP INDEX hashed_events, events_by_range, more_events;

-- An error in the middle of a row, and what comes after it
CREATE FUNCTION refuse(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF $1 = 'nine-2' THEN RAISE 'not this one'; END IF;
	RETURN $1;
END $$;
CREATE INDEX more_events ON apikey_event (refuse(key_name));
SELECT made('nine');
DO $$
BEGIN
	PERFORM apikey_create('nine-1');
	BEGIN
		PERFORM apikey_create('nine-2');
	EXCEPTION WHEN OTHERS THEN
		RAISE NOTICE '%', SQLERRM;
	END;
	BEGIN
		PERFORM apikey_create('nine-1');
	EXCEPTION WHEN unique_violation THEN
		RAISE NOTICE '%', SQLERRM;
	END;
	PERFORM apikey_create('nine-3');
END $$;
SELECT complete();
DROP INDEX more_events;

-- While a row is written: by a trigger, which makes a key, too
CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.name ~ '^ten-.$' THEN
		PERFORM public.apikey_create(NEW.name || '-too');
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER another AFTER INSERT ON apikey_key FOR EACH ROW EXECUTE FUNCTION another();
SELECT made('ten');
SELECT name FROM apikeys WHERE name ~ '^ten' ORDER BY 1;
SELECT complete();
DROP TRIGGER another ON apikey_key;

-- One of ours is missed at once, in a statement, too
DO $$
BEGIN
	PERFORM apikey_create('eleven-1');
	DROP INDEX apikey_event_key;
	PERFORM apikey_create('eleven-2');
END $$;
-- A column that comes and goes
BEGIN;
ALTER TABLE apikey_event ADD COLUMN note text;
CREATE INDEX more_events ON apikey_event (note) WHERE note IS NULL;
SELECT made('twelve');
SELECT complete();
ALTER TABLE apikey_event DROP COLUMN note;
SELECT made('thirteen');
SELECT complete();
ROLLBACK;

SELECT count(apikey_delete(id, name)) FROM apikeys WHERE name ~ '^[a-z]+-\d';
DROP FUNCTION made, complete, kind_of, refuse, another;
DROP EXTENSION amcheck;
