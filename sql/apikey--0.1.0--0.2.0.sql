-- Complain if this file is fed to psql.
\echo Use "ALTER EXTENSION apikey UPDATE TO '0.2.0'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- Tables: heaps, whatever the default was when they were made.

ALTER TABLE @extschema@.apikey_organization SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_project SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_member SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_key SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_digest SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_import SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_reveal SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_usage SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_credit SET ACCESS METHOD heap;
ALTER TABLE @extschema@.apikey_event SET ACCESS METHOD heap;

-- Keys

ALTER TABLE @extschema@.apikey_key
	ADD COLUMN vouched_by regrole,
	ADD COLUMN vouched_by_name text,
	ADD COLUMN vouched_by_subject text COLLATE "C",
	ADD COLUMN created_by text,
	ADD COLUMN created_by_subject text COLLATE "C",
	ADD COLUMN updated_at timestamptz,
	ADD COLUMN enabled_at timestamptz;

-- Dumps

-- A dump leaves out the keys and members of roles that were dropped: their OIDs
-- would be read as those of other roles where it is restored.  An existing
-- role's name never begins with a digit here, for it would stand in quotes.
-- A condition names no object but pg_catalog's, for who owns the schema may
-- move all others.  What other tables hold of such keys is dumped with them,
-- and is nobody's.
SELECT pg_extension_config_dump('@extschema@.apikey_member',
	'WHERE member::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
SELECT pg_extension_config_dump('@extschema@.apikey_key',
	'WHERE owner::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]'''
	' AND (vouched_by IS NULL OR vouched_by::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]'')');
SELECT pg_extension_config_dump('@extschema@.apikey_digest', '');
SELECT pg_extension_config_dump('@extschema@.apikey_import', '');
SELECT pg_extension_config_dump('@extschema@.apikey_reveal', '');
SELECT pg_extension_config_dump('@extschema@.apikey_usage', '');
SELECT pg_extension_config_dump('@extschema@.apikey_credit', '');
-- Who vouches for a key sees it, too.
CREATE FUNCTION @extschema@._apikey_visible(owner regrole, subject text, project uuid,
		vouched_by regrole, vouched_by_subject text)
	RETURNS boolean
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_visible(regrole, text, uuid, regrole, text) IS
	'May the caller see the keys of this owner in this project, for which that principal vouches?';
GRANT EXECUTE ON FUNCTION @extschema@._apikey_visible(regrole, text, uuid, regrole, text) TO PUBLIC;
ALTER POLICY apikey_key_owner ON @extschema@.apikey_key
	USING (@extschema@._apikey_visible(owner, subject, project, vouched_by, vouched_by_subject));
CREATE OR REPLACE VIEW @extschema@.apikeys WITH (security_barrier) AS
	SELECT
		k.id,
		k.name,
		-- Of an imported key they are known once it has been used.
		k.prefix || '_...' || coalesce(nullif(k.last_four, ''),
			(SELECT i.last_four FROM @extschema@.apikey_import i WHERE i.id = k.id), '') AS masked_key,
		k.description,
		@extschema@._apikey_status(k.owner, k.disabled, k.starts_at, k.expires_at,
			k.revoked_at) AS status,
		p.path AS project,
		@extschema@._apikey_role_name(k.owner, k.owner_name) AS owner,
		k.subject,
		k.role,
		k.scopes,
		k.created_at,
		k.starts_at,
		k.expires_at,
		greatest(u.last_used_at, n.last_used_at) AS last_used_at,
		coalesce(n.last_used_addr, u.last_used_addr) AS last_used_addr,
		coalesce(u.use_count, 0) + n.use_count AS use_count,
		coalesce(u.denied_count, 0) + n.denied_count AS denied_count,
		k.rate_limit,
		k.rate_window,
		c.credits,
		c.credits_refill,
		c.credits_interval,
		k.allowed_ips,
		k.metadata,
		k.revoked_at,
		k.revoke_reason,
		k.rotated_to
	FROM @extschema@.apikey_key k
	LEFT JOIN @extschema@.apikey_project p ON p.id = k.project
	LEFT JOIN @extschema@.apikey_usage u ON u.id = k.id
	CROSS JOIN LATERAL @extschema@._apikey_pending(k.id, u.flush) n
	CROSS JOIN LATERAL @extschema@._apikey_credits(
		CASE WHEN k.credits_account IS NOT NULL THEN k.id END) c
	WHERE @extschema@._apikey_visible(k.owner, k.subject, k.project, k.vouched_by,
		k.vouched_by_subject);
DROP FUNCTION @extschema@._apikey_visible(regrole, text, uuid);
COMMENT ON FUNCTION @extschema@.apikey_transfer(uuid, regrole, text) IS
	'Hands a project''s key to another member of the project, and vouches for it; a superuser may hand a personal key to anybody. 42704: no such key or role; 42501: not the caller''s to manage; 22023: not a member; 55000: the key is revoked or was rotated.';
COMMENT ON FUNCTION @extschema@.apikey_rotate(uuid, interval) IS
	'Replaces a key by a successor with its attributes, in a project the caller''s, and returns the successor''s text, which is stored nowhere; the old key goes on through its grace, with none it is revoked. 42704: no such key; 42501: not the caller''s to manage; 22023: a negative grace, or an attribute that the project does not allow any more; 55000: the key is revoked, expired or was rotated already.';
-- The trail.  Its view must not depend on a column whose type changes.

CREATE OR REPLACE VIEW @extschema@.apikey_events WITH (security_barrier) AS
	SELECT
		e.id,
		e.at,
		e.event,
		e.key_id,
		e.key_name,
		e.place AS project,
		e.actor::name AS actor,
		e.actor_subject,
		e.client_addr,
		e.detail
	FROM @extschema@.apikey_event e
	WHERE false;
DROP POLICY apikey_event_owner ON @extschema@.apikey_event;
DROP FUNCTION @extschema@._apikey_event_visible(oid, text, uuid, uuid);
ALTER TABLE @extschema@.apikey_event
	ALTER COLUMN key_owner TYPE regrole,
	ALTER COLUMN actor_oid DROP NOT NULL,
	ADD COLUMN key_owner_name text;
UPDATE @extschema@.apikey_event SET key_owner_name = r.rolname
	FROM pg_catalog.pg_roles r WHERE r.oid = key_owner;

CREATE FUNCTION @extschema@._apikey_event_visible(key_owner regrole, key_owner_name text,
		key_subject text, key_id uuid, organization uuid, project uuid)
	RETURNS boolean
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_apikey_event_visible_0_2';
COMMENT ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) IS
	'May the caller see events about this?';
CREATE POLICY apikey_event_owner ON @extschema@.apikey_event FOR SELECT
	USING (@extschema@._apikey_event_visible(key_owner, key_owner_name, key_subject, key_id,
		organization, project));
CREATE OR REPLACE VIEW @extschema@.apikey_events WITH (security_barrier) AS
	SELECT
		e.id,
		e.at,
		e.event,
		e.key_id,
		e.key_name,
		e.place AS project,
		e.actor::name AS actor,
		e.actor_subject,
		e.client_addr,
		e.detail,
		e.key_subject
	FROM @extschema@.apikey_event e
	WHERE @extschema@._apikey_event_visible(e.key_owner, e.key_owner_name, e.key_subject,
		e.key_id, e.organization, e.project);
REVOKE ALL ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) TO PUBLIC;
-- Credits.  A row that has no generation may still have a lease that version
-- 0.1.0 has left in its file: src/account.c has how it is counted once.

ALTER TABLE @extschema@.apikey_credit
	ADD COLUMN generation bigint,
	ADD COLUMN lease bigint,
	ADD COLUMN leased bigint;

CREATE FUNCTION @extschema@.apikey_flush()
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_flush() IS
	'Writes what is pending of this database''s keys, gives back the credits that are leased, and returns when that is done; without the library preloaded nothing is. 55000: on a standby, or no worker process is free.';

REVOKE ALL ON FUNCTION @extschema@.apikey_flush() FROM PUBLIC;
DO $$
BEGIN
	EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.apikey_flush() TO %I WITH GRANT OPTION',
		(SELECT r.rolname FROM pg_extension e JOIN pg_roles r ON r.oid = e.extowner
			WHERE e.extname = 'apikey'));
END
$$;

-- Logical replication

COMMENT ON FUNCTION @extschema@._apikey_arrived() IS
	'Makes a row that arrives by logical replication that of the roles here which it means, and makes way for it; arguments: pairs of columns, of a role and of its name';
DROP TRIGGER apikey_key_arrived ON @extschema@.apikey_key;
DROP TRIGGER apikey_member_arrived ON @extschema@.apikey_member;

-- Only where changes are replicated (session_replication_role).
CREATE TRIGGER apikey_organization_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_organization
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_project_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_project
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_member_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_member
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('member', 'member_name');
CREATE TRIGGER apikey_key_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_key
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('owner', 'owner_name', 'vouched_by', 'vouched_by_name');
CREATE TRIGGER apikey_digest_arrived BEFORE INSERT ON @extschema@.apikey_digest
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_import_arrived BEFORE INSERT ON @extschema@.apikey_import
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_reveal_arrived BEFORE INSERT ON @extschema@.apikey_reveal
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_usage_arrived BEFORE INSERT ON @extschema@.apikey_usage
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_credit_arrived BEFORE INSERT ON @extschema@.apikey_credit
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_event_arrived BEFORE INSERT ON @extschema@.apikey_event
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('key_owner', 'key_owner_name');
ALTER TABLE @extschema@.apikey_organization ENABLE REPLICA TRIGGER apikey_organization_arrived;
ALTER TABLE @extschema@.apikey_project ENABLE REPLICA TRIGGER apikey_project_arrived;
ALTER TABLE @extschema@.apikey_member ENABLE REPLICA TRIGGER apikey_member_arrived;
ALTER TABLE @extschema@.apikey_key ENABLE REPLICA TRIGGER apikey_key_arrived;
ALTER TABLE @extschema@.apikey_digest ENABLE REPLICA TRIGGER apikey_digest_arrived;
ALTER TABLE @extschema@.apikey_import ENABLE REPLICA TRIGGER apikey_import_arrived;
ALTER TABLE @extschema@.apikey_reveal ENABLE REPLICA TRIGGER apikey_reveal_arrived;
ALTER TABLE @extschema@.apikey_usage ENABLE REPLICA TRIGGER apikey_usage_arrived;
ALTER TABLE @extschema@.apikey_credit ENABLE REPLICA TRIGGER apikey_credit_arrived;
ALTER TABLE @extschema@.apikey_event ENABLE REPLICA TRIGGER apikey_event_arrived;
-- Verification

DROP FUNCTION @extschema@.apikey_verify(text, text[], text, @extschema@.apikey_role, inet,
	integer, regrole);
DROP FUNCTION @extschema@.apikey_verify_digest(text, bytea, text[], text,
	@extschema@.apikey_role, inet, integer, regrole);
DROP FUNCTION @extschema@.apikey_check(text, text[], text, regrole);

-- A type of its own: the executor would build that of RETURNS TABLE anew at
-- each call, which costs more than a verification.
CREATE TYPE @extschema@.apikey_verification AS (
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
	detail jsonb);
COMMENT ON TYPE @extschema@.apikey_verification IS
	'What a verification tells: the code and, where the secret has matched, whose key it is and what it may do.';

CREATE FUNCTION @extschema@.apikey_verify(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL)
	RETURNS SETOF @extschema@.apikey_verification
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1
	SUPPORT @extschema@._apikey_verify_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify(text, text[], text,
		@extschema@.apikey_role, inet, integer, regrole) IS
	'Verifies a key for what a request needs: one row, whatever the text; code tells why it is not valid. project or owner name whose key is accepted; without them only a personal key of the caller itself. 22023: a negative cost.';

CREATE FUNCTION @extschema@.apikey_verify_digest(
		handle text,
		digest bytea,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL)
	RETURNS SETOF @extschema@.apikey_verification
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1
	SUPPORT @extschema@._apikey_verify_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole) IS
	'apikey_verify without the plaintext. handle: the key without its last 39 characters; digest: SHA-256 of the whole key.';

CREATE FUNCTION @extschema@.apikey_check(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		owner regrole DEFAULT NULL,
		client_addr inet DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_check(text, text[], text, regrole, inet) IS
	'The verification of apikey_verify, told by yes or no.';

COMMENT ON FUNCTION @extschema@.apikey_pre_request() IS
	'For PostgREST''s db-pre-request: authenticates the key in the request''s headers, one of apikey.request_project or apikey.request_owner; without a key, nobody. PT401, PT403, PT429, PT503: not valid, the code in the detail.';
COMMENT ON FUNCTION @extschema@.apikey_current_owner() IS
	'The role that owns the authenticated key; null for a project''s key, whose project vouches for it, and for nobody';

-- Privileges

-- Default privileges (ALTER DEFAULT PRIVILEGES) may have given away what was
-- just made: of that, and of nothing else, all is taken back.
DO $$
DECLARE
	made text[] := ARRAY['apikey_verification', 'apikey_verify', 'apikey_verify_digest', 'apikey_check'];
	given record;
BEGIN
	FOR given IN
		SELECT kind, name, a.grantee
			FROM (SELECT 'TABLE', c.oid::regclass::text, c.relname, c.relowner, c.relacl, 'pg_class'::regclass, c.oid
					FROM pg_class c
				  UNION ALL
				  SELECT 'FUNCTION', p.oid::regprocedure::text, p.proname, p.proowner, p.proacl, 'pg_proc'::regclass, p.oid
					FROM pg_proc p
				  UNION ALL
				  SELECT 'TYPE', t.oid::regtype::text, t.typname, t.typowner, t.typacl, 'pg_type'::regclass, t.oid
					FROM pg_type t) AS o (kind, name, plain_name, owner, acl, class, oid)
			JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
			JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
				AND e.extname = 'apikey',
			LATERAL (SELECT DISTINCT x.grantee FROM aclexplode(o.acl) x) AS a
			WHERE a.grantee NOT IN (0, o.owner) AND o.plain_name = ANY (made)
	LOOP
		EXECUTE format('REVOKE ALL ON %s %s FROM %I', given.kind, given.name,
			pg_get_userbyid(given.grantee));
	END LOOP;
END
$$;
REVOKE ALL ON TYPE @extschema@.apikey_verification FROM PUBLIC;
GRANT USAGE ON TYPE @extschema@.apikey_verification TO PUBLIC;
-- Each decides by its caller.
GRANT EXECUTE ON FUNCTION
	@extschema@.apikey_verify(text, text[], text, @extschema@.apikey_role, inet,
		integer, regrole),
	@extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole),
	@extschema@.apikey_check(text, text[], text, regrole, inet)
	TO PUBLIC;

-- Imports

COMMENT ON FUNCTION @extschema@.apikey_import(text, text, text, text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text) IS
	'Takes over a key that another system issued, by its hash in hexadecimal, base64 or base64url: sha256, sha512, md5, hmac-sha256 (under a secret of apikey.import_secret_file), sha256-part (of what is behind the last separator; lookup: what is before it); or, with lookup, what the key begins with, crypt (bcrypt) or pbkdf2-sha256 (as Django writes it). A key of this extension from another database: sha256, with its handle as lookup. The other arguments and errors are those of apikey_create; 22023: a bad algorithm, hash or lookup; 23505: a live key has this hash, id, or a lookup of which one is the beginning of the other; 55000: no secret.';
