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
DROP TRIGGER apikey_key_arrived ON @extschema@.apikey_key;
CREATE TRIGGER apikey_key_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_key
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('owner', 'owner_name',
		'vouched_by', 'vouched_by_name');
ALTER TABLE @extschema@.apikey_key ENABLE REPLICA TRIGGER apikey_key_arrived;
COMMENT ON FUNCTION @extschema@._apikey_arrived() IS
	'Makes a row that arrives by logical replication that of the role here which it means; arguments: the columns of each role and of its name, whose it is first';
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
