-- Complain if this file is fed to psql.
\echo Use "CREATE EXTENSION apikey CASCADE" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- Whoever may create objects beside ours could plant an overload of a function
-- that takes keys, and catch one.
DO $$
DECLARE
	others text;
BEGIN
	SELECT string_agg(DISTINCT CASE WHEN role = 0 THEN 'PUBLIC'
									ELSE format('"%s"', pg_get_userbyid(role)) END, ', ')
		INTO others
		FROM (SELECT CASE WHEN g.oid = 'pg_database_owner'::regrole
						  THEN d.datdba ELSE g.oid END AS role,
					 e.extowner
				FROM pg_extension e
				JOIN pg_namespace n ON n.oid = e.extnamespace
				JOIN pg_database d ON d.datname = current_database(),
				LATERAL (SELECT n.nspowner
						 UNION
						 SELECT grantee
							FROM aclexplode(n.nspacl)
							WHERE privilege_type = 'CREATE') AS g (oid)
				WHERE e.extname = 'apikey') AS creators
		WHERE role <> extowner
		  AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role AND r.rolsuper);
	IF others IS NOT NULL THEN
		RAISE WARNING 'schema "%" lets others create objects beside those of extension "apikey": %',
				(SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
					WHERE e.extname = 'apikey'), others
			USING DETAIL = 'A function planted there could be called in place of ours, with a key.',
				  HINT = 'Install the extension into a schema in which nobody else may create.';
	END IF;
END
$$;

-- Types

CREATE TYPE @extschema@.apikey_role AS ENUM ('developer', 'admin', 'owner');
COMMENT ON TYPE @extschema@.apikey_role IS
	'What a member, or a key, may do in an organization or project; rising';

-- Tables

-- The columns are known to src/key.c by their order.
CREATE TABLE @extschema@.apikey_key (
	id uuid NOT NULL,
	owner regrole NOT NULL,
	disabled boolean NOT NULL,
	created_at timestamptz NOT NULL,
	starts_at timestamptz,
	expires_at timestamptz,
	revoked_at timestamptz,
	owner_name text NOT NULL,
	prefix text NOT NULL,
	last_four text NOT NULL,
	name text COLLATE "C" NOT NULL,
	subject text COLLATE "C",
	description text,
	scopes text[] NOT NULL,
	allowed_ips cidr[],
	metadata jsonb NOT NULL,
	revoke_reason text,
	CONSTRAINT apikey_key_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE @extschema@.apikey_key IS
	'API keys, without anything they could be verified by; read them through the view apikeys';

-- A name is taken by a live key only.
CREATE UNIQUE INDEX apikey_key_name ON @extschema@.apikey_key
	(owner, subject, name) NULLS NOT DISTINCT WHERE revoked_at IS NULL;

CREATE TABLE @extschema@.apikey_digest (
	id uuid NOT NULL,
	digest bytea NOT NULL,
	pepper integer NOT NULL,
	CONSTRAINT apikey_digest_pkey PRIMARY KEY (id),
	CONSTRAINT apikey_digest_length CHECK (octet_length(digest) = 32)
);
COMMENT ON TABLE @extschema@.apikey_digest IS
	'HMAC-SHA-256(pepper, SHA-256(key)) of each key; pepper: 0, the empty one';
-- Digests stay out of pg_statistic.
ALTER TABLE @extschema@.apikey_digest
	ALTER COLUMN digest SET STATISTICS 0, ALTER COLUMN digest SET STORAGE PLAIN;

-- A dump leaves out the keys of dropped roles: their OIDs would be read as
-- those of other roles where it is restored.
SELECT pg_extension_config_dump('@extschema@.apikey_key',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = owner)');
SELECT pg_extension_config_dump('@extschema@.apikey_digest',
	'WHERE EXISTS (SELECT FROM @extschema@.apikey_key k JOIN pg_catalog.pg_roles r'
	' ON r.oid = k.owner WHERE k.id = apikey_digest.id)');

-- Reading a key's text

CREATE FUNCTION @extschema@.apikey_id(key text)
	RETURNS uuid
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_id(text) IS
	'The id that an API key carries; null where its shape is wrong. Reads no table.';

CREATE FUNCTION @extschema@.apikey_parse(key text,
		OUT prefix text, OUT id uuid, OUT checksum_ok boolean)
	RETURNS record
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_parse(text) IS
	'The parts of an API key: prefix, id, and whether the CRC-32 checksum is right; null, null, false where its shape is wrong. Reads no table.';

-- Making and changing keys

CREATE FUNCTION @extschema@.apikey_create(
		name text,
		project text DEFAULT NULL,
		description text DEFAULT NULL,
		subject text DEFAULT NULL,
		scopes text[] DEFAULT '{}',
		role @extschema@.apikey_role DEFAULT NULL,
		starts_at timestamptz DEFAULT NULL,
		expires_at timestamptz DEFAULT NULL,
		prefix text DEFAULT NULL,
		rate_limit integer DEFAULT NULL,
		rate_window interval DEFAULT '1 minute',
		credits bigint DEFAULT NULL,
		credits_refill bigint DEFAULT NULL,
		credits_interval interval DEFAULT NULL,
		allowed_ips cidr[] DEFAULT NULL,
		metadata jsonb DEFAULT '{}',
		accept_terms text DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_create(text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text) IS
	'Makes an API key of the caller and returns its text, which is stored nowhere. 22023, 22004: a bad argument; 23505: the name is taken; 42501: another''s subject; 0A000: project, limits, credits and terms.';

CREATE FUNCTION @extschema@.apikey_rename(id uuid, new_name text)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_rename(uuid, text) IS
	'Gives a key another name. 42704: no such key; 42501: not the caller''s to manage; 22023, 23505: the name is bad or taken; 55000: the key is revoked.';

CREATE FUNCTION @extschema@.apikey_disable(id uuid)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_disable(uuid) IS
	'Makes a key invalid until it is enabled again; false where it was disabled or revoked already. 42704: no such key; 42501: not the caller''s to manage.';

CREATE FUNCTION @extschema@.apikey_enable(id uuid)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_enable(uuid) IS
	'Undoes apikey_disable; false where the key was not disabled. 42704: no such key; 42501: not the caller''s to manage; 55000: the key is revoked.';

CREATE FUNCTION @extschema@.apikey_revoke(id uuid, reason text DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_revoke(uuid, text) IS
	'Makes a key invalid at once and for good; false where it was already. reason: at most 500 characters. 42704: no such key; 42501: not the caller''s to manage; 22023: a bad reason.';

CREATE FUNCTION @extschema@.apikey_self_revoke(key text, reason text DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_self_revoke(text, text) IS
	'Revokes the key whose text is given, whoever calls; true where this call revoked it, false for everything else. 22023: a bad reason.';

CREATE FUNCTION @extschema@.apikey_delete(id uuid, confirm_name text)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_delete(uuid, text) IS
	'Removes a key; confirm_name must be its name. 42704: no such key; 42501: not the caller''s to manage; 22023: another name.';

-- Verification

CREATE FUNCTION @extschema@.apikey_verify(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL)
	RETURNS TABLE (
		valid boolean,
		code text,
		key_id uuid,
		name text,
		project text,
		owner name,
		subject text,
		role @extschema@.apikey_role,
		scopes text[],
		metadata jsonb,
		expires_at timestamptz,
		credits bigint,
		rate_remaining integer,
		rate_reset_at timestamptz,
		detail jsonb)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify(text, text[], text,
		@extschema@.apikey_role, inet, integer, regrole) IS
	'Verifies a key for what a request needs: one row, whatever the text; code tells why it is not valid. 22023: a negative cost.';

CREATE FUNCTION @extschema@.apikey_verify_digest(
		handle text,
		digest bytea,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL)
	RETURNS TABLE (
		valid boolean,
		code text,
		key_id uuid,
		name text,
		project text,
		owner name,
		subject text,
		role @extschema@.apikey_role,
		scopes text[],
		metadata jsonb,
		expires_at timestamptz,
		credits bigint,
		rate_remaining integer,
		rate_reset_at timestamptz,
		detail jsonb)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole) IS
	'apikey_verify without the plaintext. handle: the key without its last 39 characters; digest: SHA-256 of the whole key.';

CREATE FUNCTION @extschema@.apikey_check(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		owner regrole DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_check(text, text[], text, regrole) IS
	'The verification of apikey_verify, told by yes or no.';

-- What the policy and the view are made of

CREATE FUNCTION @extschema@._apikey_visible(owner regrole, subject text)
	RETURNS boolean
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_visible(regrole, text) IS
	'May the caller see the keys of this owner?';

CREATE FUNCTION @extschema@._apikey_role_name(role regrole, last_known text)
	RETURNS name
	LANGUAGE C STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_role_name(regrole, text) IS
	'The name of a role, or the one last known where it was dropped';

CREATE FUNCTION @extschema@._apikey_status(owner regrole, disabled boolean,
		starts_at timestamptz, expires_at timestamptz, revoked_at timestamptz)
	RETURNS text
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_status(regrole, boolean, timestamptz,
		timestamptz, timestamptz) IS
	'active, scheduled, disabled, expired or revoked';

CREATE FUNCTION @extschema@._apikey_write()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_write() IS
	'Carries out UPDATE of the view apikeys, and refuses INSERT and DELETE';

-- Who may read the tables at all (pg_read_all_data) sees what the view shows,
-- and no digest: that table has no policy.
ALTER TABLE @extschema@.apikey_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.apikey_digest ENABLE ROW LEVEL SECURITY;
CREATE POLICY apikey_key_owner ON @extschema@.apikey_key FOR SELECT
	USING (@extschema@._apikey_visible(owner, subject));

CREATE VIEW @extschema@.apikeys WITH (security_barrier) AS
	SELECT
		k.id,
		k.name,
		k.prefix || '_...' || k.last_four AS masked_key,
		k.description,
		@extschema@._apikey_status(k.owner, k.disabled, k.starts_at, k.expires_at,
			k.revoked_at) AS status,
		NULL::text AS project,
		@extschema@._apikey_role_name(k.owner, k.owner_name) AS owner,
		k.subject,
		NULL::@extschema@.apikey_role AS role,
		k.scopes,
		k.created_at,
		k.starts_at,
		k.expires_at,
		NULL::timestamptz AS last_used_at,
		NULL::inet AS last_used_addr,
		NULL::bigint AS use_count,
		NULL::bigint AS denied_count,
		NULL::integer AS rate_limit,
		NULL::interval AS rate_window,
		NULL::bigint AS credits,
		NULL::bigint AS credits_refill,
		NULL::interval AS credits_interval,
		k.allowed_ips,
		k.metadata,
		k.revoked_at,
		k.revoke_reason,
		NULL::uuid AS rotated_to
	FROM @extschema@.apikey_key k
	WHERE @extschema@._apikey_visible(k.owner, k.subject);
COMMENT ON VIEW @extschema@.apikeys IS
	'The API keys that the caller may see, masked; UPDATE its writable columns to change a key';

CREATE TRIGGER apikeys_write INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.apikeys
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_write();

-- Privileges: nothing to anybody but what stands here.

REVOKE ALL ON TYPE @extschema@.apikey_role FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_key FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_digest FROM PUBLIC;
REVOKE ALL ON @extschema@.apikeys FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@._apikey_write() FROM PUBLIC;

-- Arguments and columns of this type are everybody's.
GRANT USAGE ON TYPE @extschema@.apikey_role TO PUBLIC;
-- Shows what the caller may see; its trigger decides about each change.
GRANT SELECT, UPDATE ON @extschema@.apikeys TO PUBLIC;
-- Each decides by its caller.
GRANT EXECUTE ON FUNCTION
	@extschema@.apikey_id(text),
	@extschema@.apikey_parse(text),
	@extschema@.apikey_create(text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text),
	@extschema@.apikey_rename(uuid, text),
	@extschema@.apikey_disable(uuid),
	@extschema@.apikey_enable(uuid),
	@extschema@.apikey_revoke(uuid, text),
	@extschema@.apikey_self_revoke(text, text),
	@extschema@.apikey_delete(uuid, text),
	@extschema@.apikey_verify(text, text[], text, @extschema@.apikey_role, inet,
		integer, regrole),
	@extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole),
	@extschema@.apikey_check(text, text[], text, regrole)
	TO PUBLIC;
-- The view and the policy call these as whoever reads them.
GRANT EXECUTE ON FUNCTION
	@extschema@._apikey_visible(regrole, text),
	@extschema@._apikey_role_name(regrole, text),
	@extschema@._apikey_status(regrole, boolean, timestamptz, timestamptz, timestamptz)
	TO PUBLIC;
