-- The database of the benchmark: 10,000 keys; the floor; what people write by
-- hand with pgcrypto, in three ways of keeping the last use, with credits, and
-- with a trail.
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
CREATE ROLE bench LOGIN;
CREATE FUNCTION bench_floor(key text)
	RETURNS SETOF apikey_verification
	LANGUAGE C VOLATILE ROWS 1 AS :'floor';

CREATE TABLE bench_keys (n serial PRIMARY KEY, key text);
GRANT ALL ON bench_keys, bench_keys_n_seq TO bench;
-- Whose they are is who verifies them.
SET ROLE bench;
INSERT INTO bench_keys (key) SELECT apikey_create('key-' || i, scopes => '{a,b}') FROM generate_series(1, 10000) i;
RESET ROLE;

CREATE TABLE hand (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	hash bytea NOT NULL UNIQUE,
	name text NOT NULL,
	owner name NOT NULL DEFAULT current_user,
	scopes text[] NOT NULL DEFAULT '{a,b}',
	metadata jsonb NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz,
	revoked_at timestamptz,
	last_used_at timestamptz,
	credits bigint NOT NULL DEFAULT 1000000000);
INSERT INTO hand (hash, name) SELECT digest(key, 'sha256'), 'key-' || n FROM bench_keys;
\ir hand.sql
CREATE FUNCTION hand_verify_throttled(key text) RETURNS TABLE (id uuid, name text, scopes text[]) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE hand h SET last_used_at = now() WHERE h.hash = digest(key, 'sha256')
		AND (h.last_used_at IS NULL OR h.last_used_at < now() - interval '1 minute');
	RETURN QUERY SELECT h.id, h.name, h.scopes FROM hand h
		WHERE h.hash = digest(key, 'sha256') AND h.revoked_at IS NULL AND (h.expires_at IS NULL OR h.expires_at > now());
END $$;
CREATE FUNCTION hand_verify_updating(key text) RETURNS TABLE (id uuid, name text, scopes text[]) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY UPDATE hand h SET last_used_at = now()
		WHERE h.hash = digest(key, 'sha256') AND h.revoked_at IS NULL AND (h.expires_at IS NULL OR h.expires_at > now())
		RETURNING h.id, h.name, h.scopes;
END $$;
CREATE TABLE audit (
	id bigserial PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT now(),
	event text NOT NULL,
	key_id uuid NOT NULL,
	actor name NOT NULL DEFAULT current_user);

-- Keys to be revoked while others are in use.
CREATE TABLE bench_spare (n serial PRIMARY KEY, id uuid);
INSERT INTO bench_spare (id) SELECT apikey_id(apikey_create('spare-' || i)) FROM generate_series(1, :spare) i;
CREATE SEQUENCE bench_spare_next;

GRANT SELECT, UPDATE ON hand TO bench;
ALTER TABLE hand SET (fillfactor = 50);
VACUUM ANALYZE;
