-- Complain if this file is fed to psql.
\echo Use "ALTER EXTENSION apikey UPDATE TO '0.2.0'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- The schema's owner is nobody to trust with what a superuser runs: the schema
-- keeps its name until this has committed, so that each name below is ours.
DO $$
DECLARE
	ours oid;
BEGIN
	SELECT n.oid INTO STRICT ours
		FROM pg_extension e
		JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'apikey'
		FOR UPDATE OF n;
	-- To have waited for a change is not to have heard of it: a session reads
	-- what others have told of their changes where it takes a lock anew.
	LOCK TABLE pg_catalog.pg_namespace IN ROW EXCLUSIVE MODE;
	IF to_regnamespace('@extschema@') IS DISTINCT FROM ours THEN
		RAISE EXCEPTION 'schema of extension "apikey" was renamed by a concurrent transaction'
			USING ERRCODE = 'serialization_failure';
	END IF;
END
$$;

-- What 0.1.0 has made, to tell it below from what this script makes.
SELECT set_config('apikey_update.members', (
	SELECT array_agg(d.classid || ' ' || d.objid)::text
		FROM pg_depend d
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
			AND e.extname = 'apikey'
		WHERE d.deptype = 'e'), true);

-- First what only this version's library has.  A server that has preloaded an
-- older one, or a session that has called it, goes on with that one, whatever
-- has been installed since: it would take the tables for those of before.
DO $$
BEGIN
	CREATE FUNCTION @extschema@._apikey_list_support(internal)
		RETURNS internal
		LANGUAGE C STRICT AS 'MODULE_PATHNAME';
EXCEPTION WHEN undefined_function THEN
	RAISE EXCEPTION 'extension "apikey" cannot be updated under an older library'
		USING ERRCODE = 'object_not_in_prerequisite_state',
			  DETAIL = 'The library that is loaded has not been made for the version to update to.',
			  HINT = 'Reconnect or, where "shared_preload_libraries" names the library, restart the server.';
END
$$;

-- All tables at once, before any is changed.  Who verifies, changes a key or
-- writes down its use has taken some of them, in an order of its own: so this
-- waits for none of them longer than a deadlock needs to be found while it
-- holds others, and begins anew.
DO $$
DECLARE
	patience text := current_setting('lock_timeout');
	began timestamptz := clock_timestamp();
BEGIN
	PERFORM set_config('lock_timeout', '500ms', true);
	LOOP
		BEGIN
			LOCK TABLE @extschema@.apikey_usage, @extschema@.apikey_credit, @extschema@.apikey_key,
				@extschema@.apikey_digest, @extschema@.apikey_import, @extschema@.apikey_reveal,
				@extschema@.apikey_organization, @extschema@.apikey_project, @extschema@.apikey_member,
				@extschema@.apikey_event IN ACCESS EXCLUSIVE MODE;
			EXIT;
		EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
			IF patience <> '0' AND clock_timestamp() > began + patience::interval THEN
				RAISE;
			END IF;
		END;
	END LOOP;
	PERFORM set_config('lock_timeout', patience, true);
END
$$;

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
	ADD COLUMN enabled_at timestamptz,
	ADD COLUMN rate_account uuid;
ALTER TABLE @extschema@.apikey_project
	ADD COLUMN max_idle interval,
	ADD COLUMN max_idle_at timestamptz;
ALTER TABLE @extschema@.apikey_usage
	ADD COLUMN idle_told timestamptz;
COMMENT ON TABLE @extschema@.apikey_usage IS
	'How often keys were used and refused, their last use, and what events have told of their end; read it through the view apikeys';

-- Views

-- What the views read.  They begin with who may see, and no condition of a
-- query reaches a table of ours but as an argument of theirs.

COMMENT ON FUNCTION @extschema@._apikey_list_support(internal) IS
	'Gives the functions below the views, when a query is planned, what the query wants of them';
REVOKE ALL ON FUNCTION @extschema@._apikey_list_support(internal) FROM PUBLIC;

CREATE FUNCTION @extschema@._apikey_organizations()
	RETURNS TABLE (
		id uuid, name text, role @extschema@.apikey_role, created_at timestamptz)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_organizations() IS
	'The organizations that the caller is a member of';
REVOKE ALL ON FUNCTION @extschema@._apikey_organizations() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_organizations() TO PUBLIC;

CREATE FUNCTION @extschema@._apikey_projects(
		id uuid, path text)
	RETURNS TABLE (
		id uuid, path text, role @extschema@.apikey_role, created_at timestamptz,
		members_can_view boolean, name_pattern text, max_ttl interval, max_keys integer,
		terms text, revealable boolean, max_idle interval, max_idle_at timestamptz)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	SUPPORT @extschema@._apikey_list_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_projects(uuid, text) IS
	'The projects that the caller is a member of; with an argument, that one';
REVOKE ALL ON FUNCTION @extschema@._apikey_projects(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_projects(uuid, text) TO PUBLIC;

CREATE FUNCTION @extschema@._apikey_members()
	RETURNS TABLE (
		path text, member regrole, subject text, role @extschema@.apikey_role,
		created_at timestamptz, created_by text)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_members() IS
	'The members of the organizations and projects that the caller is a member of';
REVOKE ALL ON FUNCTION @extschema@._apikey_members() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_members() TO PUBLIC;

CREATE FUNCTION @extschema@._apikey_keys(
		id uuid, owner name, subject text, project text, since timestamptz,
		before timestamptz, most bigint, skip bigint, columns bigint)
	RETURNS TABLE (
		id uuid, name text, masked_key text, description text, status text, project text,
		owner name, subject text, role @extschema@.apikey_role, scopes text[],
		created_at timestamptz, starts_at timestamptz, expires_at timestamptz,
		last_used_at timestamptz, last_used_addr inet, use_count bigint,
		denied_count bigint, rate_limit integer, rate_window interval, credits bigint,
		credits_refill bigint, credits_interval interval, allowed_ips cidr[],
		metadata jsonb, revoked_at timestamptz, revoke_reason text, rotated_to uuid,
		effective_role @extschema@.apikey_role, created_by name, created_by_subject text,
		updated_at timestamptz, revealable boolean, accepted_terms text, vouched_by name,
		vouched_by_subject text)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	SUPPORT @extschema@._apikey_list_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_keys(uuid, name, text, text, timestamptz, timestamptz, bigint, bigint, bigint) IS
	'The keys that the caller may see; what is given of its arguments leaves out what a query does not want';
REVOKE ALL ON FUNCTION @extschema@._apikey_keys(uuid, name, text, text, timestamptz, timestamptz, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_keys(uuid, name, text, text, timestamptz, timestamptz, bigint, bigint, bigint) TO PUBLIC;

CREATE FUNCTION @extschema@._apikey_events(
		id bigint, key_id uuid, key_subject text, project text, since bigint, before bigint,
		most bigint, skip bigint)
	RETURNS TABLE (
		id bigint, at timestamptz, event text, key_id uuid, key_name text, project text,
		actor name, actor_subject text, client_addr inet, detail jsonb, key_subject text)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	SUPPORT @extschema@._apikey_list_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_events(bigint, uuid, text, text, bigint, bigint, bigint, bigint) IS
	'The events that the caller may see; what is given of its arguments leaves out what a query does not want';
REVOKE ALL ON FUNCTION @extschema@._apikey_events(bigint, uuid, text, text, bigint, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_events(bigint, uuid, text, text, bigint, bigint, bigint, bigint) TO PUBLIC;

CREATE OR REPLACE VIEW @extschema@.apikey_organizations WITH (security_barrier) AS
	SELECT
		o.id,
		o.name COLLATE "C" AS name,
		o.role,
		o.created_at
	FROM @extschema@._apikey_organizations() o;
COMMENT ON VIEW @extschema@.apikey_organizations IS
	'The organizations that the caller is a member of, and its role there';
COMMENT ON COLUMN @extschema@.apikey_organizations.id IS
	'Identifies the organization';
COMMENT ON COLUMN @extschema@.apikey_organizations.name IS
	'What it is called: the first part of its projects'' paths';
COMMENT ON COLUMN @extschema@.apikey_organizations.role IS
	'What the caller is in it; null where it only sees it';
COMMENT ON COLUMN @extschema@.apikey_organizations.created_at IS
	'When it was made';

CREATE OR REPLACE VIEW @extschema@.apikey_projects WITH (security_barrier) AS
	SELECT
		p.id,
		p.path COLLATE "C" AS path,
		p.role,
		p.created_at,
		p.members_can_view,
		p.name_pattern,
		p.max_ttl,
		p.max_keys,
		p.terms,
		p.revealable,
		p.max_idle,
		p.max_idle_at
	FROM @extschema@._apikey_projects(
		NULL::uuid, NULL::text) p;
COMMENT ON VIEW @extschema@.apikey_projects IS
	'The projects that the caller is a member of, itself or through their organization, its role there, and their settings, which owners UPDATE';
COMMENT ON COLUMN @extschema@.apikey_projects.id IS
	'Identifies the project';
COMMENT ON COLUMN @extschema@.apikey_projects.path IS
	'organization/project';
COMMENT ON COLUMN @extschema@.apikey_projects.role IS
	'What the caller is in it, the higher of its roles there and in the organization; null where it only sees it';
COMMENT ON COLUMN @extschema@.apikey_projects.created_at IS
	'When it was made';
COMMENT ON COLUMN @extschema@.apikey_projects.members_can_view IS
	'May its developers see all of its keys?';
COMMENT ON COLUMN @extschema@.apikey_projects.name_pattern IS
	'The regular expression that a new key''s name must match; null: the default rule';
COMMENT ON COLUMN @extschema@.apikey_projects.max_ttl IS
	'The longest that a key may last, counted from when it was made; null: no bound';
COMMENT ON COLUMN @extschema@.apikey_projects.max_keys IS
	'How many live keys it may have; null: no bound';
COMMENT ON COLUMN @extschema@.apikey_projects.terms IS
	'What accept_terms must repeat where a key is made; null: nothing';
COMMENT ON COLUMN @extschema@.apikey_projects.revealable IS
	'Can keys that are made in it be shown again, where the server has a pepper?';
COMMENT ON COLUMN @extschema@.apikey_projects.max_idle IS
	'A key that is not used for so long is revoked, reason "idle"; null: none is';
COMMENT ON COLUMN @extschema@.apikey_projects.max_idle_at IS
	'From when that is counted at the earliest: max_idle was set, or a server that tells no uses was last seen';

CREATE OR REPLACE VIEW @extschema@.apikey_members WITH (security_barrier) AS
	SELECT
		m.path COLLATE "C" AS path,
		m.member,
		m.subject COLLATE "C" AS subject,
		m.role,
		m.created_at,
		m.created_by
	FROM @extschema@._apikey_members() m;
COMMENT ON VIEW @extschema@.apikey_members IS
	'The members of the organizations and projects that the caller is a member of';
COMMENT ON COLUMN @extschema@.apikey_members.path IS
	'The organization or project';
COMMENT ON COLUMN @extschema@.apikey_members.member IS
	'The role that is a member';
COMMENT ON COLUMN @extschema@.apikey_members.subject IS
	'The application''s user that is; null: all of the role''s';
COMMENT ON COLUMN @extschema@.apikey_members.role IS
	'What the member is there';
COMMENT ON COLUMN @extschema@.apikey_members.created_at IS
	'When it was added';
COMMENT ON COLUMN @extschema@.apikey_members.created_by IS
	'The role that added it';

CREATE OR REPLACE VIEW @extschema@.apikeys WITH (security_barrier) AS
	SELECT
		k.id,
		k.name COLLATE "C" AS name,
		k.masked_key,
		k.description,
		k.status,
		k.project COLLATE "C" AS project,
		k.owner COLLATE "default" AS owner,
		k.subject COLLATE "C" AS subject,
		k.role,
		k.scopes,
		k.created_at,
		k.starts_at,
		k.expires_at,
		k.last_used_at,
		k.last_used_addr,
		k.use_count,
		k.denied_count,
		k.rate_limit,
		k.rate_window,
		k.credits,
		k.credits_refill,
		k.credits_interval,
		k.allowed_ips,
		k.metadata,
		k.revoked_at,
		k.revoke_reason,
		k.rotated_to,
		k.effective_role,
		k.created_by,
		k.created_by_subject COLLATE "C" AS created_by_subject,
		k.updated_at,
		k.revealable,
		k.accepted_terms,
		k.vouched_by,
		k.vouched_by_subject COLLATE "C" AS vouched_by_subject
	FROM @extschema@._apikey_keys(
		NULL::uuid, NULL::name, NULL::text, NULL::text, NULL::timestamptz,
		NULL::timestamptz, NULL::bigint, NULL::bigint, NULL::bigint) k;
COMMENT ON VIEW @extschema@.apikeys IS
	'The API keys that the caller may see, masked; UPDATE its writable columns to change a key';
COMMENT ON COLUMN @extschema@.apikeys.id IS
	'Identifies the key, for functions and in events; a UUID that rises with time';
COMMENT ON COLUMN @extschema@.apikeys.name IS
	'What the key is called; unique among the live keys of its project or owner';
COMMENT ON COLUMN @extschema@.apikeys.masked_key IS
	'The prefix and the last four characters of the key';
COMMENT ON COLUMN @extschema@.apikeys.description IS
	'Free text';
COMMENT ON COLUMN @extschema@.apikeys.status IS
	'active, retiring (replaced, in its grace), scheduled (before starts_at), disabled, forbidden (its owner or voucher no longer belongs to the project), expired or revoked, when the statement started';
COMMENT ON COLUMN @extschema@.apikeys.project IS
	'The path of its project; null for a personal key';
COMMENT ON COLUMN @extschema@.apikeys.owner IS
	'The role whose key it is';
COMMENT ON COLUMN @extschema@.apikeys.subject IS
	'The application''s user whose key it is; a label where apikey.subject_setting is empty';
COMMENT ON COLUMN @extschema@.apikeys.role IS
	'The most that the key may be in its project; null for a personal key';
COMMENT ON COLUMN @extschema@.apikeys.scopes IS
	'What the key grants: a scope grants itself, one that ends with :* all that begin so, * everything';
COMMENT ON COLUMN @extschema@.apikeys.created_at IS
	'When it was made';
COMMENT ON COLUMN @extschema@.apikeys.starts_at IS
	'From when on it is valid; null: from the beginning';
COMMENT ON COLUMN @extschema@.apikeys.expires_at IS
	'When it ends; null: never';
COMMENT ON COLUMN @extschema@.apikeys.last_used_at IS
	'Its last valid verification; null: never';
COMMENT ON COLUMN @extschema@.apikeys.last_used_addr IS
	'The client address of the last verification that was told of one';
COMMENT ON COLUMN @extschema@.apikeys.use_count IS
	'How often it was verified as valid, a cost of 0 excepted';
COMMENT ON COLUMN @extschema@.apikeys.denied_count IS
	'How often it was refused though its secret matched';
COMMENT ON COLUMN @extschema@.apikeys.rate_limit IS
	'How many verifications pass in rate_window; null: no limit';
COMMENT ON COLUMN @extschema@.apikeys.rate_window IS
	'The time that rate_limit is about';
COMMENT ON COLUMN @extschema@.apikeys.credits IS
	'What is left of its credits; null: it needs none';
COMMENT ON COLUMN @extschema@.apikeys.credits_refill IS
	'What its credits are set to at each refill; null: no refill';
COMMENT ON COLUMN @extschema@.apikeys.credits_interval IS
	'The time between refills';
COMMENT ON COLUMN @extschema@.apikeys.allowed_ips IS
	'The networks from which it may be used; null: from any';
COMMENT ON COLUMN @extschema@.apikeys.metadata IS
	'What the application keeps with it; returned by verification';
COMMENT ON COLUMN @extschema@.apikeys.revoked_at IS
	'When it was revoked; null: it was not';
COMMENT ON COLUMN @extschema@.apikeys.revoke_reason IS
	'Why it was revoked';
COMMENT ON COLUMN @extschema@.apikeys.rotated_to IS
	'The id of the key that has replaced it';
COMMENT ON COLUMN @extschema@.apikeys.effective_role IS
	'The role that verification would return now: the lowest of role and what owner and voucher are in the project; null where they are nothing, and for a personal key';
COMMENT ON COLUMN @extschema@.apikeys.created_by IS
	'The role that made it; a transfer does not change it';
COMMENT ON COLUMN @extschema@.apikeys.created_by_subject IS
	'The application''s user that made it';
COMMENT ON COLUMN @extschema@.apikeys.updated_at IS
	'Its last change; UPDATE ... WHERE id = ... AND updated_at = ... overwrites no change that came between';
COMMENT ON COLUMN @extschema@.apikeys.revealable IS
	'Would apikey_reveal show it, to whom it may';
COMMENT ON COLUMN @extschema@.apikeys.accepted_terms IS
	'The terms that were accepted when it was made';
COMMENT ON COLUMN @extschema@.apikeys.vouched_by IS
	'The role that last decided whose key it is, by making, rotating or transferring it; null for a personal key';
COMMENT ON COLUMN @extschema@.apikeys.vouched_by_subject IS
	'The application''s user that did';

CREATE OR REPLACE VIEW @extschema@.apikey_events WITH (security_barrier) AS
	SELECT
		e.id,
		e.at,
		e.event,
		e.key_id,
		e.key_name,
		e.project,
		e.actor COLLATE "default" AS actor,
		e.actor_subject,
		e.client_addr,
		e.detail,
		e.key_subject
	FROM @extschema@._apikey_events(
		NULL::bigint, NULL::uuid, NULL::text, NULL::text, NULL::bigint, NULL::bigint,
		NULL::bigint, NULL::bigint) e;
COMMENT ON VIEW @extschema@.apikey_events IS
	'What was done to the keys, projects and organizations that the caller owns';
COMMENT ON COLUMN @extschema@.apikey_events.id IS
	'Rises with time';
COMMENT ON COLUMN @extschema@.apikey_events.at IS
	'When it happened';
COMMENT ON COLUMN @extschema@.apikey_events.event IS
	'What was done: created, updated, renamed, revoked and so on';
COMMENT ON COLUMN @extschema@.apikey_events.key_id IS
	'The id of the key that it is about; null where it is about none';
COMMENT ON COLUMN @extschema@.apikey_events.key_name IS
	'What that key was called then';
COMMENT ON COLUMN @extschema@.apikey_events.project IS
	'The path of the project, or of the organization, that it is about; null for a personal key';
COMMENT ON COLUMN @extschema@.apikey_events.actor IS
	'The role that did it; of denied, that asked';
COMMENT ON COLUMN @extschema@.apikey_events.actor_subject IS
	'The application''s user that did it';
COMMENT ON COLUMN @extschema@.apikey_events.client_addr IS
	'The address that the client had connected from; of denied, the one that verification was told of';
COMMENT ON COLUMN @extschema@.apikey_events.detail IS
	'What else there is to tell, by event';
COMMENT ON COLUMN @extschema@.apikey_events.key_subject IS
	'The application''s user whose key it was; a label where apikey.subject_setting is empty';

DROP FUNCTION @extschema@._apikey_sees_all();
DROP FUNCTION @extschema@._apikey_role_name(regrole, text);
DROP FUNCTION @extschema@._apikey_status(regrole, boolean, timestamptz, timestamptz, timestamptz);
DROP FUNCTION @extschema@._apikey_pending(uuid, bigint);
DROP FUNCTION @extschema@._apikey_credits(uuid);

DROP INDEX IF EXISTS @extschema@.apikey_key_project;
-- For the lists of the views: each begins with who may see, and ends with what
-- the list is ordered by.
CREATE INDEX apikey_key_owner ON @extschema@.apikey_key (owner, created_at, id);
CREATE INDEX apikey_key_owner_subject ON @extschema@.apikey_key (owner, subject, created_at, id);
CREATE INDEX apikey_key_project ON @extschema@.apikey_key (project, created_at, id)
	WHERE project IS NOT NULL;
DROP INDEX IF EXISTS @extschema@.apikey_key_expires_at;
CREATE INDEX apikey_key_expires_at ON @extschema@.apikey_key (expires_at, id)
	WHERE expires_at IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX apikey_key_project_subject ON @extschema@.apikey_key (project, subject, created_at, id)
	WHERE project IS NOT NULL AND subject IS NOT NULL;
CREATE INDEX apikey_key_vouched_by ON @extschema@.apikey_key
	(vouched_by, vouched_by_subject, created_at, id)
	WHERE vouched_by IS NOT NULL
	  AND (vouched_by <> owner OR vouched_by_subject IS DISTINCT FROM subject);
CREATE INDEX apikey_key_rate_account ON @extschema@.apikey_key (rate_account)
	WHERE rate_account IS NOT NULL;
CREATE INDEX apikey_member_place ON @extschema@.apikey_member (organization, project, member, role);
CREATE INDEX apikey_member_member ON @extschema@.apikey_member (member);

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

-- Revocations

-- Who may only revoke a key adds a row here, and locks none of the key's; so does
-- who disables or removes a key, or removes a member, that somebody else has.  It
-- is taken into the key's row when that is locked next.  What is removed and disabled
-- both is a member, whatever key has that id.  What is restored was not written here:
-- its key may come later, and it awaits that.
CREATE TABLE @extschema@.apikey_revocation (
	id uuid NOT NULL,
	key_id uuid NOT NULL,
	revoked_at timestamptz NOT NULL,
	reason text,
	revoked_by text NOT NULL,
	revoked_by_subject text COLLATE "C",
	removed boolean NOT NULL,
	disabled boolean NOT NULL,
	restored boolean NOT NULL DEFAULT true,
	CONSTRAINT apikey_revocation_pkey PRIMARY KEY (id)
) USING heap;
COMMENT ON TABLE @extschema@.apikey_revocation IS
	'What revokes, disables or removes a key, or removes a member, and is not in its row yet; the views go by them';
COMMENT ON TABLE @extschema@.apikey_digest IS
	'HMAC-SHA-256(pepper, SHA-256(key)) of each key; pepper: the fingerprint of the one that it is keyed with, 0 for the empty one';
COMMENT ON VIEW @extschema@.apikey_stats IS
	'What this server has counted of verifications in the current database since its start, and how many keys are keyed with which pepper, by fingerprint';
CREATE INDEX apikey_revocation_key ON @extschema@.apikey_revocation (key_id);
CREATE TRIGGER apikey_revocation_changed AFTER INSERT OR UPDATE OR DELETE ON @extschema@.apikey_revocation
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_changed();
ALTER TABLE @extschema@.apikey_revocation ENABLE ALWAYS TRIGGER apikey_revocation_changed;
ALTER TABLE @extschema@.apikey_revocation ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @extschema@.apikey_revocation FROM PUBLIC;
SELECT pg_extension_config_dump('@extschema@.apikey_revocation', '');
-- A subscriber would verify keys that are revoked there.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = '@extschema@.apikey_key'::regclass) THEN
		RAISE WARNING 'publications of table "apikey_key" do not have table "apikey_revocation" yet'
			USING HINT = 'Add it to each of them, and refresh their subscriptions.';
	END IF;
END
$$;

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
DROP FUNCTION @extschema@._apikey_visible(regrole, text, uuid);
COMMENT ON FUNCTION @extschema@.apikey_transfer(uuid, regrole, text) IS
	'Hands the project''s key of this id to new_owner and subject, another member of the project, and vouches for it; a superuser may hand a personal key to anybody. 42704: no such key or role; 42501: not the caller''s to manage; 22023, 22004: not a member, a bad subject, a null; 55000: the key is revoked or was rotated.';
COMMENT ON FUNCTION @extschema@.apikey_rotate(uuid, interval) IS
	'Replaces the key of this id by a successor with its attributes, in a project the caller''s, and returns the successor''s text, which is stored nowhere. The old key goes on for grace, with none (0) it is revoked. The successor ends when the old key would have, or at expires_at, and no later than the project''s max_ttl from now, told by a notice. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004: a negative or null grace, a bad expires_at, or an attribute that the project does not allow any more; 55000: the key is revoked, expired or was rotated already.';
-- The trail

-- The trail.  Its view must not depend on a column whose type changes.

DROP POLICY apikey_event_owner ON @extschema@.apikey_event;
DROP FUNCTION @extschema@._apikey_event_visible(oid, text, uuid, uuid);
ALTER TABLE @extschema@.apikey_event
	ALTER COLUMN key_owner TYPE regrole,
	ALTER COLUMN actor_oid DROP NOT NULL,
	ADD COLUMN key_owner_name text;
-- A dump of 0.1.0 has numbers alone.  An event's is of a role here where whoever had
-- it did that, or something with the key before, by the name that it has now.
UPDATE @extschema@.apikey_event e SET key_owner_name = r.rolname
	FROM pg_catalog.pg_roles r,
		(SELECT key_id, actor_oid, actor, min(id) AS id FROM @extschema@.apikey_event
			WHERE actor_oid = key_owner GROUP BY key_id, actor_oid, actor) o
	WHERE o.key_id = e.key_id AND o.id <= e.id AND o.actor_oid = e.key_owner
		AND r.oid = o.actor_oid AND r.rolname = o.actor;

CREATE FUNCTION @extschema@._apikey_event_visible(key_owner regrole, key_owner_name text,
		key_subject text, key_id uuid, organization uuid, project uuid)
	RETURNS boolean
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', '_apikey_event_visible_0_2';
COMMENT ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) IS
	'May the caller see events about this?';
CREATE POLICY apikey_event_owner ON @extschema@.apikey_event FOR SELECT
	USING (@extschema@._apikey_event_visible(key_owner, key_owner_name, key_subject, key_id,
		organization, project));
REVOKE ALL ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_event_visible(regrole, text, text, uuid, uuid, uuid) TO PUBLIC;
-- Credits.  A row that has no generation may still have a lease that version
-- 0.1.0 has left in its file: src/credits/account.c has how it is counted once.

ALTER TABLE @extschema@.apikey_credit
	ADD COLUMN generation bigint,
	ADD COLUMN lease bigint,
	ADD COLUMN leased bigint,
	ADD COLUMN anchor timestamptz,
	ADD COLUMN overdraft bigint,
	ADD COLUMN low_told timestamptz,
	ADD COLUMN exhausted_told timestamptz,
	DROP CONSTRAINT apikey_credit_balance;
COMMENT ON TABLE @extschema@.apikey_credit IS
	'Accounts, each of a key and its successors or, where anchor is not null, of a limit; read them through the views apikeys and apikey_limits';

CREATE FUNCTION @extschema@.apikey_flush()
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_flush() IS
	'Writes what is pending of this database''s keys, gives back the credits that are leased, and returns when that is done; where nothing is gathered in memory nothing is. 55000: on a standby, or no worker process is free.';

REVOKE ALL ON FUNCTION @extschema@.apikey_flush() FROM PUBLIC;

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
CREATE TRIGGER apikey_revocation_arrived BEFORE INSERT ON @extschema@.apikey_revocation
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
ALTER TABLE @extschema@.apikey_revocation ENABLE REPLICA TRIGGER apikey_revocation_arrived;
ALTER TABLE @extschema@.apikey_usage ENABLE REPLICA TRIGGER apikey_usage_arrived;
ALTER TABLE @extschema@.apikey_credit ENABLE REPLICA TRIGGER apikey_credit_arrived;
ALTER TABLE @extschema@.apikey_event ENABLE REPLICA TRIGGER apikey_event_arrived;

CREATE FUNCTION @extschema@._apikey_project_restored()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_project_restored() IS
	'Begins anew to count how long the keys of a project that is restored are idle';
REVOKE ALL ON FUNCTION @extschema@._apikey_project_restored() FROM PUBLIC;
CREATE TRIGGER apikey_project_restored BEFORE INSERT ON @extschema@.apikey_project
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_project_restored();
ALTER TABLE @extschema@.apikey_project ENABLE ALWAYS TRIGGER apikey_project_restored;

CREATE FUNCTION @extschema@._apikey_beside_restored()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_beside_restored() IS
	'Notes of what revokes or removes something, and was not written here, that its key or member may come later';
REVOKE ALL ON FUNCTION @extschema@._apikey_beside_restored() FROM PUBLIC;
CREATE TRIGGER apikey_revocation_restored BEFORE INSERT ON @extschema@.apikey_revocation
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_beside_restored();
ALTER TABLE @extschema@.apikey_revocation ENABLE ALWAYS TRIGGER apikey_revocation_restored;

CREATE FUNCTION @extschema@._apikey_named()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_named() IS
	'Brings the names beside the roles of a row that is restored up to date; arguments: pairs of columns, of a role and of its name';
CREATE TRIGGER apikey_key_named BEFORE INSERT ON @extschema@.apikey_key
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_named('owner', 'owner_name', 'vouched_by', 'vouched_by_name');
CREATE TRIGGER apikey_member_named BEFORE INSERT ON @extschema@.apikey_member
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_named('member', 'member_name');
ALTER TABLE @extschema@.apikey_key ENABLE ALWAYS TRIGGER apikey_key_named;
ALTER TABLE @extschema@.apikey_member ENABLE ALWAYS TRIGGER apikey_member_named;
REVOKE ALL ON FUNCTION @extschema@._apikey_named() FROM PUBLIC;

CREATE FUNCTION @extschema@._apikey_event_named()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_event_named() IS
	'Takes the name from an event that is restored where it does not fit the number of a role here; arguments: pairs of columns, of a role and of its name';
CREATE TRIGGER apikey_event_named BEFORE INSERT ON @extschema@.apikey_event
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_event_named('key_owner', 'key_owner_name');
ALTER TABLE @extschema@.apikey_event ENABLE ALWAYS TRIGGER apikey_event_named;
REVOKE ALL ON FUNCTION @extschema@._apikey_event_named() FROM PUBLIC;

-- Functions that take more than before are made anew, below, and so may be
-- called by everybody.  What was granted or revoked otherwise is told: it cannot
-- be done here, as a dump would take it for what this script gives.
DO $$
DECLARE
	lost record;
BEGIN
	FOR lost IN
		SELECT p.proname AS name, p.proacl AS acl
			FROM pg_proc p
			JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
			JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
				AND e.extname = 'apikey'
			LEFT JOIN pg_init_privs i ON i.classoid = d.classid AND i.objoid = d.objid AND i.objsubid = 0
			WHERE p.proname IN ('apikey_verify', 'apikey_verify_digest', 'apikey_check',
					'apikey_authenticate', 'apikey_authenticate_digest', 'apikey_rotate')
				AND p.proacl IS DISTINCT FROM i.initprivs
			ORDER BY 1
	LOOP
		RAISE WARNING 'function "%" may be called by everybody again', lost.name
			USING DETAIL = format('Its privileges were %s.', lost.acl),
				  HINT = 'Grant and revoke again what is to differ.';
	END LOOP;
END
$$;

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
		owner regrole DEFAULT NULL,
		costs jsonb DEFAULT NULL)
	RETURNS SETOF @extschema@.apikey_verification
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1
	SUPPORT @extschema@._apikey_verify_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify(text, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb) IS
	'Verifies a key for what a request needs; returns one row, whatever the text, of which code tells why it is not valid. scopes: each scope that the request needs; project, an organization''s or a project''s path, or owner, a role: whose key is accepted, without them only a personal key of the caller itself; min_role: the least that it must be in its project; client_addr: where the request comes from, for keys with allowed_ips; cost: how many requests its limits are spent of, 0 to ask only; costs: how much of other units, {"unit": amount}. 22023, 22004: a cost that is negative or null, or costs that are none.';

CREATE FUNCTION @extschema@.apikey_verify_digest(
		handle text,
		digest bytea,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL,
		costs jsonb DEFAULT NULL)
	RETURNS SETOF @extschema@.apikey_verification
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1
	SUPPORT @extschema@._apikey_verify_support AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb) IS
	'apikey_verify without the plaintext. handle: the key without its last 39 characters; digest: SHA-256 of the whole key; or of a token handle: the token, digest: null. scopes: each scope that the request needs; project, an organization''s or a project''s path, or owner, a role: whose key is accepted, without them only a personal key of the caller itself; min_role: the least that it must be in its project; client_addr: where the request comes from, for keys with allowed_ips; cost: how many requests its limits are spent of, 0 to ask only; costs: how much of other units, {"unit": amount}. 22023, 22004: a cost that is negative or null, or costs that are none.';

DROP FUNCTION @extschema@.apikey_authenticate(text, text[], text, @extschema@.apikey_role, inet,
	integer, regrole);
DROP FUNCTION @extschema@.apikey_authenticate_digest(text, bytea, text[], text,
	@extschema@.apikey_role, inet, integer, regrole);

CREATE FUNCTION @extschema@.apikey_authenticate(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL,
		costs jsonb DEFAULT NULL)
	RETURNS uuid
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_authenticate(text, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb) IS
	'Verifies a key as apikey_verify does; to the end of the transaction the apikey_current_ functions and apikey_has_scope speak of this key, whose id is returned. scopes: each scope that the request needs; project, an organization''s or a project''s path, or owner, a role: whose key is accepted, without them only a personal key of the caller itself; min_role: the least that it must be in its project; client_addr: where the request comes from, for keys with allowed_ips; cost: how many requests its limits are spent of, 0 to ask only; costs: how much of other units, {"unit": amount}. 28000: not valid, the code in the detail; 22023, 22004: a cost that is negative or null, or costs that are none.';

CREATE FUNCTION @extschema@.apikey_authenticate_digest(
		handle text,
		digest bytea,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		min_role @extschema@.apikey_role DEFAULT NULL,
		client_addr inet DEFAULT NULL,
		cost integer DEFAULT 1,
		owner regrole DEFAULT NULL,
		costs jsonb DEFAULT NULL)
	RETURNS uuid
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_authenticate_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb) IS
	'apikey_authenticate without the plaintext. handle: the key without its last 39 characters; digest: SHA-256 of the whole key; or of a token handle: the token, digest: null. scopes: each scope that the request needs; project, an organization''s or a project''s path, or owner, a role: whose key is accepted, without them only a personal key of the caller itself; min_role: the least that it must be in its project; client_addr: where the request comes from, for keys with allowed_ips; cost: how many requests its limits are spent of, 0 to ask only; costs: how much of other units, {"unit": amount}. 28000: not valid, the code in the detail; 22023, 22004: a cost that is negative or null, or costs that are none.';

CREATE FUNCTION @extschema@.apikey_check(
		key text,
		scopes text[] DEFAULT NULL,
		project text DEFAULT NULL,
		owner regrole DEFAULT NULL,
		client_addr inet DEFAULT NULL)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_check(text, text[], text, regrole, inet) IS
	'The verification of a key by apikey_verify, limits and counts included, told by true or false. scopes: each scope that the request needs; project or owner: whose key is accepted, without them only a personal key of the caller itself; client_addr: where the request comes from. Raises nothing.';

COMMENT ON FUNCTION @extschema@.apikey_pre_request() IS
	'For PostgREST''s db-pre-request: authenticates the key in the request''s headers, one of apikey.request_project or apikey.request_owner; without a key, nobody. PT401, PT403, PT429, PT503: not valid, the code in the detail.';
COMMENT ON FUNCTION @extschema@.apikey_current_owner() IS
	'The role that owns the authenticated key; null for a project''s key, whose project vouches for it, and for nobody';

-- Privileges

REVOKE ALL ON TYPE @extschema@.apikey_verification FROM PUBLIC;
GRANT USAGE ON TYPE @extschema@.apikey_verification TO PUBLIC;
-- Each decides by its caller.
GRANT EXECUTE ON FUNCTION
	@extschema@.apikey_verify(text, text[], text, @extschema@.apikey_role, inet,
		integer, regrole, jsonb),
	@extschema@.apikey_verify_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb),
	@extschema@.apikey_authenticate(text, text[], text, @extschema@.apikey_role,
		inet, integer, regrole, jsonb),
	@extschema@.apikey_authenticate_digest(text, bytea, text[], text,
		@extschema@.apikey_role, inet, integer, regrole, jsonb),
	@extschema@.apikey_check(text, text[], text, regrole, inet)
	TO PUBLIC;

-- Imports

COMMENT ON FUNCTION @extschema@.apikey_import(text, text, text, text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text) IS
	'Takes over a key that another system issued, and returns its id. algorithm and hash: sha256, sha512, md5, hmac-sha256 (under a secret of apikey.import_secret_file), sha256-part (of what is behind the last separator; lookup: what is before it), in hexadecimal, base64 or base64url; or, with lookup, what the key begins with (8 characters or more), crypt (bcrypt of cost 4 to 12) or pbkdf2-sha256 (as Django writes it). A key of this extension from another database: sha256, with its handle as lookup. The other arguments are those of apikey_create: name, project, description, subject, scopes, role, starts_at, expires_at, prefix, rate_limit, rate_window, credits, credits_refill, credits_interval, allowed_ips, metadata, accept_terms; and so are the other errors. 22023: a bad algorithm, hash or lookup; 23505: a live key has this hash, id, or a lookup of which one is the beginning of the other; 55000: no secret.';

-- Rotating to another end, and keys that a project's max_ttl came after.

DROP FUNCTION @extschema@.apikey_rotate(uuid, interval);
CREATE FUNCTION @extschema@.apikey_rotate(id uuid, grace interval DEFAULT '0',
		expires_at timestamptz DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_rotate(uuid, interval, timestamptz) IS
	'Replaces the key of this id by a successor with its attributes, in a project the caller''s, and returns the successor''s text, which is stored nowhere. The old key goes on for grace, with none (0) it is revoked. The successor ends when the old key would have, or at expires_at, and no later than the project''s max_ttl from now, told by a notice. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004: a negative or null grace, a bad expires_at, or an attribute that the project does not allow any more; 55000: the key is revoked, expired or was rotated already.';

CREATE FUNCTION @extschema@.apikey_project_apply(path text)
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_project_apply(text) IS
	'Brings the live keys of the project of this path that end later than its max_ttl from now, or never, to end then, for owners; returns how many. 42704: no such project; 42501: not its owner; 22004: a null.';
REVOKE ALL ON FUNCTION
	@extschema@.apikey_rotate(uuid, interval, timestamptz),
	@extschema@.apikey_project_apply(text)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.apikey_rotate(uuid, interval, timestamptz),
	@extschema@.apikey_project_apply(text)
	TO PUBLIC;

-- Imports

COMMENT ON FUNCTION @extschema@.apikey_import(text, text, text, text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text) IS
	'Takes over a key that another system issued, and returns its id. algorithm and hash: sha256, sha512, md5, hmac-sha256 (under a secret of apikey.import_secret_file), sha256-part (of what is behind the last separator; lookup: what is before it), in hexadecimal, base64 or base64url; or, with lookup, what the key begins with (8 characters or more), crypt (bcrypt of cost 4 to 12) or pbkdf2-sha256 (as Django writes it). A key of this extension from another database: sha256, with its handle as lookup. The other arguments are those of apikey_create: name, project, description, subject, scopes, role, starts_at, expires_at, prefix, rate_limit, rate_window, credits, credits_refill, credits_interval, allowed_ips, metadata, accept_terms; and so are the other errors. 22023: a bad algorithm, hash or lookup; 23505: a live key has this hash, id, or a lookup of which one is the beginning of the other; 55000: no secret.';
DROP INDEX IF EXISTS @extschema@.apikey_event_key;
CREATE INDEX apikey_event_key ON @extschema@.apikey_event (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX apikey_event_owner ON @extschema@.apikey_event (key_owner, id)
	WHERE key_owner IS NOT NULL;
CREATE INDEX apikey_event_owner_subject ON @extschema@.apikey_event
	(key_owner, key_subject COLLATE "C", id) WHERE key_owner IS NOT NULL;
CREATE INDEX apikey_event_owner_place ON @extschema@.apikey_event
	(key_owner, place COLLATE "C", id) WHERE key_owner IS NOT NULL AND place IS NOT NULL;
CREATE INDEX apikey_event_organization ON @extschema@.apikey_event (organization, id)
	WHERE organization IS NOT NULL;
CREATE INDEX apikey_event_organization_subject ON @extschema@.apikey_event
	(organization, key_subject COLLATE "C", id)
	WHERE organization IS NOT NULL AND key_subject IS NOT NULL;
CREATE INDEX apikey_event_place ON @extschema@.apikey_event
	(organization, place COLLATE "C", id) WHERE organization IS NOT NULL;
-- Those of a dump of 0.1.0, or of roles that were renamed or dropped before a
-- dump, which do not say whose key it was.
CREATE INDEX apikey_event_unnamed ON @extschema@.apikey_event (key_id, id)
	WHERE key_id IS NOT NULL AND key_owner_name IS NULL;
-- Grants

CREATE TABLE @extschema@.apikey_administrator (
	id uuid NOT NULL,
	role regrole NOT NULL,
	role_name text NOT NULL,
	granted_at timestamptz NOT NULL,
	granted_by text NOT NULL,
	CONSTRAINT apikey_administrator_pkey PRIMARY KEY (id)
) USING heap;
COMMENT ON TABLE @extschema@.apikey_administrator IS
	'Roles that see every key and event, and may disable and revoke, while role and role_name are one role''s; see apikey_grant';
ALTER TABLE @extschema@.apikey_administrator ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @extschema@.apikey_administrator FROM PUBLIC;
SELECT pg_extension_config_dump('@extschema@.apikey_administrator',
	'WHERE role::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
CREATE TRIGGER apikey_administrator_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_administrator
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('role', 'role_name');
ALTER TABLE @extschema@.apikey_administrator ENABLE REPLICA TRIGGER apikey_administrator_arrived;
CREATE FUNCTION @extschema@.apikey_grant(what text, to_role regrole)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_grant(text, regrole) IS
	'Lets to_role make organizations, import keys or read the statistics (what: organizations, import, stats), for whoever has the privileges of the extension''s owner; or serve as the role of other servers, or see every key and event and disable and revoke (servers, administer), for superusers. 42501: not the caller''s to give; 42704: no such role; 22023, 22004: a bad argument.';

CREATE FUNCTION @extschema@.apikey_ungrant(what text, from_role regrole)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_ungrant(text, regrole) IS
	'Takes away from from_role what (organizations, import, stats, servers, administer) apikey_grant or GRANT has given to it, with what that role has given on. 42501: not the caller''s to take; 22023, 22004: a bad argument.';
REVOKE ALL ON FUNCTION
	@extschema@.apikey_grant(text, regrole),
	@extschema@.apikey_ungrant(text, regrole)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.apikey_grant(text, regrole),
	@extschema@.apikey_ungrant(text, regrole)
	TO PUBLIC;
GRANT SELECT ON @extschema@.apikey_stats TO pg_monitor;

-- The long form of rate_limit and credits: of a key, of a subject, of a place,
-- or of a subject in a place.  The index finds a holder's, and lets it have one
-- of each unit, kind and period: one month is not 30 days.
CREATE TABLE @extschema@.apikey_limit (
	id uuid NOT NULL,
	key uuid,
	organization uuid,
	project uuid,
	owner regrole,
	owner_name text,
	subject text COLLATE "C",
	unit text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL,
	amount bigint NOT NULL,
	period interval,
	shared boolean NOT NULL,
	overdraft bigint NOT NULL,
	starts_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	created_by text NOT NULL,
	lifetime bigint,
	CONSTRAINT apikey_limit_pkey PRIMARY KEY (id)
) USING heap;
COMMENT ON TABLE @extschema@.apikey_limit IS
	'Limits of keys, subjects, projects and organizations; read them through the view apikey_limits';
CREATE UNIQUE INDEX apikey_limit_holder ON @extschema@.apikey_limit
	(key, organization, project, owner, subject, unit, kind, interval_send(period))
	NULLS NOT DISTINCT;

-- Whose a deleted key was, for a day: charges that come late still count.
CREATE TABLE @extschema@.apikey_deleted (
	id uuid NOT NULL,
	owner regrole NOT NULL,
	owner_name text NOT NULL,
	subject text COLLATE "C",
	organization uuid,
	project uuid,
	path text,
	deleted_at timestamptz NOT NULL,
	CONSTRAINT apikey_deleted_pkey PRIMARY KEY (id)
) USING heap;
COMMENT ON TABLE @extschema@.apikey_deleted IS
	'Keys that were deleted less than a day ago, and whose they were; see apikey_charge';
CREATE INDEX apikey_deleted_at ON @extschema@.apikey_deleted (deleted_at, id);

-- By hours, and then by days; with room on each page for updates in place.  The
-- id is made of key, beginning and step; names and OIDs are those of the time, as
-- in events.
CREATE TABLE @extschema@.apikey_history (
	id uuid NOT NULL,
	key_id uuid NOT NULL,
	key_name text NOT NULL,
	key_owner regrole NOT NULL,
	key_owner_name text,
	key_subject text COLLATE "C",
	place text COLLATE "C",
	organization uuid,
	project uuid,
	starts_at timestamptz NOT NULL,
	step interval NOT NULL,
	use_count bigint NOT NULL,
	denied jsonb NOT NULL,
	spent jsonb NOT NULL,
	CONSTRAINT apikey_history_pkey PRIMARY KEY (id)
) USING heap WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.apikey_history IS
	'The use of keys by hours and days; read it through the view apikey_usage_history';
CREATE INDEX apikey_history_place ON @extschema@.apikey_history (organization, project, starts_at)
	WHERE organization IS NOT NULL;
CREATE INDEX apikey_history_owner ON @extschema@.apikey_history (key_owner, starts_at);
CREATE INDEX apikey_history_step ON @extschema@.apikey_history (step, starts_at, id);
SELECT pg_extension_config_dump('@extschema@.apikey_limit',
	'WHERE owner IS NULL OR owner::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
SELECT pg_extension_config_dump('@extschema@.apikey_deleted',
	'WHERE owner::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
SELECT pg_extension_config_dump('@extschema@.apikey_history', '');

-- Limits

CREATE FUNCTION @extschema@.apikey_limit_set(
		unit text,
		amount bigint,
		period interval,
		kind text DEFAULT 'rate',
		key uuid DEFAULT NULL,
		path text DEFAULT NULL,
		subject text DEFAULT NULL,
		shared boolean DEFAULT false,
		overdraft bigint DEFAULT 0)
	RETURNS uuid
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_limit_set(text, bigint, interval, text, uuid, text, text, boolean, bigint) IS
	'Limits a key, the personal keys of the caller''s role with a subject, a project or organization (path), or a subject there, and returns the limit''s id; replaces the holder''s limit of the same unit, kind and period, and keeps what was spent. unit: requests, or what costs name; kind: rate (amount at once, then evenly over period), quota (amount each period) or balance (amount once, period null); shared: over all servers together; overdraft: how far charges may go below zero. 22023, 22004: a bad argument, or a ninth limit; 42704: no such holder; 42501: not the caller''s to limit, or looser by a caller that has a subject; 55000: the library is not preloaded.';

CREATE FUNCTION @extschema@.apikey_limit_add(id uuid, amount bigint)
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_limit_add(uuid, bigint) IS
	'Adds an amount, 1 or more, to the balance of this id; returns what is left then. 42704: no such limit; 42501: not the caller''s to change; 22023: a bad amount; 22004: a null; 55000: not a balance, or the library is not preloaded.';

CREATE FUNCTION @extschema@.apikey_limit_drop(id uuid)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_limit_drop(uuid) IS
	'Removes the limit of this id; returns true. 42704: no such limit; 42501: not the caller''s to drop; 22004: a null; 55000: the library is not preloaded.';

CREATE FUNCTION @extschema@.apikey_charge(key uuid, costs jsonb, project text DEFAULT NULL,
		owner regrole DEFAULT NULL)
	RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_charge(uuid, jsonb, text, regrole) IS
	'Spends of a key''s limits what a request has turned out to cost, {"unit": amount}, or gives back what the key has spent, with negative amounts; refuses nothing: what is beyond an overdraft, or of a rate beyond one more amount, is dropped, with an event. project and owner as for apikey_verify; a deleted key is charged for a day. 42704: no such key; 22023, 22004: bad costs; 55000: it cannot be charged now, and was not, or the library is not preloaded.';

CREATE FUNCTION @extschema@._apikey_limits()
	RETURNS TABLE (
		id uuid, key_id uuid, path text, role_name name, subject text, unit text, kind text,
		amount bigint, period interval, shared boolean, overdraft bigint, remaining bigint,
		resets_at timestamptz, created_at timestamptz, created_by name)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 100
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_limits() IS
	'The limits of the keys, subjects, projects and organizations that the caller sees';

CREATE FUNCTION @extschema@._apikey_usage_history()
	RETURNS TABLE (
		key_id uuid, key_name text, project text, subject text, starts_at timestamptz,
		step interval, use_count bigint, denied jsonb, spent jsonb)
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000 ROWS 1000
	AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_usage_history() IS
	'The use of the keys whose events the caller may see, by hours and days';

CREATE FUNCTION @extschema@._apikey_limit_write()
	RETURNS trigger
	LANGUAGE C VOLATILE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_limit_write() IS
	'Carries out UPDATE of the view apikey_limits, and refuses INSERT and DELETE';

CREATE TRIGGER apikey_limit_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_limit
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('owner', 'owner_name');
CREATE TRIGGER apikey_limit_named BEFORE INSERT ON @extschema@.apikey_limit
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_named('owner', 'owner_name');
CREATE TRIGGER apikey_limit_changed AFTER INSERT OR UPDATE OR DELETE ON @extschema@.apikey_limit
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_changed();
ALTER TABLE @extschema@.apikey_limit ENABLE REPLICA TRIGGER apikey_limit_arrived;
ALTER TABLE @extschema@.apikey_limit ENABLE ALWAYS TRIGGER apikey_limit_named;
ALTER TABLE @extschema@.apikey_limit ENABLE ALWAYS TRIGGER apikey_limit_changed;
ALTER TABLE @extschema@.apikey_limit ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER apikey_deleted_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_deleted
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('owner', 'owner_name');
CREATE TRIGGER apikey_deleted_named BEFORE INSERT ON @extschema@.apikey_deleted
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_named('owner', 'owner_name');
ALTER TABLE @extschema@.apikey_deleted ENABLE REPLICA TRIGGER apikey_deleted_arrived;
ALTER TABLE @extschema@.apikey_deleted ENABLE ALWAYS TRIGGER apikey_deleted_named;
ALTER TABLE @extschema@.apikey_deleted ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER apikey_history_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_history
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('key_owner', 'key_owner_name');
CREATE TRIGGER apikey_history_named BEFORE INSERT ON @extschema@.apikey_history
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_event_named('key_owner', 'key_owner_name');
ALTER TABLE @extschema@.apikey_history ENABLE REPLICA TRIGGER apikey_history_arrived;
ALTER TABLE @extschema@.apikey_history ENABLE ALWAYS TRIGGER apikey_history_named;
ALTER TABLE @extschema@.apikey_history ENABLE ROW LEVEL SECURITY;

CREATE VIEW @extschema@.apikey_limits WITH (security_barrier) AS
	SELECT
		l.id,
		l.key_id,
		l.path COLLATE "C" AS path,
		l.role_name,
		l.subject COLLATE "C" AS subject,
		l.unit COLLATE "C" AS unit,
		l.kind COLLATE "C" AS kind,
		l.amount,
		l.period,
		l.shared,
		l.overdraft,
		l.remaining,
		l.resets_at,
		l.created_at,
		l.created_by
	FROM @extschema@._apikey_limits() l;
COMMENT ON VIEW @extschema@.apikey_limits IS
	'The limits of the keys, subjects, projects and organizations that the caller sees; UPDATE amount, period, shared and overdraft to change one';
COMMENT ON COLUMN @extschema@.apikey_limits.id IS
	'Identifies the limit';
COMMENT ON COLUMN @extschema@.apikey_limits.key_id IS
	'The key that it limits; null for another holder';
COMMENT ON COLUMN @extschema@.apikey_limits.path IS
	'The project or organization whose keys it limits; null for another holder';
COMMENT ON COLUMN @extschema@.apikey_limits.role_name IS
	'The role whose personal keys with the subject it limits; null for another holder';
COMMENT ON COLUMN @extschema@.apikey_limits.subject IS
	'The application''s user whose keys it limits; null: of whichever';
COMMENT ON COLUMN @extschema@.apikey_limits.unit IS
	'What it counts: requests, or what costs name';
COMMENT ON COLUMN @extschema@.apikey_limits.kind IS
	'rate, quota or balance';
COMMENT ON COLUMN @extschema@.apikey_limits.amount IS
	'How much: at once and over the period, each period, or once';
COMMENT ON COLUMN @extschema@.apikey_limits.period IS
	'How long the period is; null for a balance';
COMMENT ON COLUMN @extschema@.apikey_limits.shared IS
	'Does a rate hold over all servers together?';
COMMENT ON COLUMN @extschema@.apikey_limits.overdraft IS
	'How far charges may overdraw a quota or balance';
COMMENT ON COLUMN @extschema@.apikey_limits.remaining IS
	'What is left of it; null where that is not known here';
COMMENT ON COLUMN @extschema@.apikey_limits.resets_at IS
	'When a rate is whole again, or the quota''s period ends; null for a balance';
COMMENT ON COLUMN @extschema@.apikey_limits.created_at IS
	'When it was set first';
COMMENT ON COLUMN @extschema@.apikey_limits.created_by IS
	'The role that did';

CREATE TRIGGER apikey_limits_write INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.apikey_limits
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_limit_write();

CREATE VIEW @extschema@.apikey_usage_history WITH (security_barrier) AS
	SELECT
		h.key_id,
		h.key_name,
		h.project,
		h.subject,
		h.starts_at,
		h.step,
		h.use_count,
		h.denied,
		h.spent
	FROM @extschema@._apikey_usage_history() h;
COMMENT ON VIEW @extschema@.apikey_usage_history IS
	'The use of the keys whose events the caller may see, by hours and, for longer, by days';
COMMENT ON COLUMN @extschema@.apikey_usage_history.key_id IS
	'The key';
COMMENT ON COLUMN @extschema@.apikey_usage_history.key_name IS
	'What the key was called then';
COMMENT ON COLUMN @extschema@.apikey_usage_history.project IS
	'The path of its project; null for a personal key';
COMMENT ON COLUMN @extschema@.apikey_usage_history.subject IS
	'The application''s user whose key it was; a label where apikey.subject_setting is empty';
COMMENT ON COLUMN @extschema@.apikey_usage_history.starts_at IS
	'When the hour or day began, in UTC';
COMMENT ON COLUMN @extschema@.apikey_usage_history.step IS
	'1 hour or 1 day';
COMMENT ON COLUMN @extschema@.apikey_usage_history.use_count IS
	'How often it was verified as valid, a cost of 0 excepted';
COMMENT ON COLUMN @extschema@.apikey_usage_history.denied IS
	'How often it was refused though its secret matched, by code';
COMMENT ON COLUMN @extschema@.apikey_usage_history.spent IS
	'What it spent of units that it is limited in, less what was given back';

REVOKE ALL ON @extschema@.apikey_limit FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_deleted FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_history FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_usage_history FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@._apikey_usage_history() FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_limits FROM PUBLIC;
REVOKE ALL ON FUNCTION
	@extschema@._apikey_limits(),
	@extschema@._apikey_limit_write(),
	@extschema@.apikey_limit_set(text, bigint, interval, text, uuid, text, text, boolean, bigint),
	@extschema@.apikey_limit_add(uuid, bigint),
	@extschema@.apikey_limit_drop(uuid),
	@extschema@.apikey_charge(uuid, jsonb, text, regrole)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@._apikey_limits(),
	@extschema@._apikey_usage_history(),
	@extschema@.apikey_limit_set(text, bigint, interval, text, uuid, text, text, boolean, bigint),
	@extschema@.apikey_limit_add(uuid, bigint),
	@extschema@.apikey_limit_drop(uuid),
	@extschema@.apikey_charge(uuid, jsonb, text, regrole)
	TO PUBLIC;
GRANT SELECT, UPDATE (amount, period, shared, overdraft) ON @extschema@.apikey_limits TO PUBLIC;
GRANT SELECT ON @extschema@.apikey_usage_history TO PUBLIC;
-- Monitoring

COMMENT ON FUNCTION @extschema@._apikey_stats() IS
	'What this server has counted of verifications in the current database; all null where nothing is counted in memory';

CREATE FUNCTION @extschema@._apikey_stats_codes()
	RETURNS TABLE (code text, verifications bigint)
	LANGUAGE C STABLE PARALLEL SAFE ROWS 17 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_stats_codes() IS
	'How often this server has answered with each code in the current database; null where nothing is counted in memory';

CREATE FUNCTION @extschema@._apikey_peppers()
	RETURNS TABLE (fingerprint text, place integer, current boolean, keys bigint)
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 3 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_peppers() IS
	'The peppers of this server, and how many keys are keyed with each';

CREATE FUNCTION @extschema@.apikey_health()
	RETURNS TABLE (name text, severity text, value text, hint text)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 16 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_health() IS
	'Whether all that this server needs to verify keys in the current database is as it should be: SELECT * FROM apikey_health() WHERE severity <> ''ok'' names what is not, and what to do about it. It raises nothing. For whom the statistics are.';

CREATE OR REPLACE VIEW @extschema@.apikey_stats AS
	SELECT
		s.since,
		s.verifications,
		s.tracked_keys,
		s.evictions,
		s.not_attributed,
		s.last_flush_at,
		(SELECT coalesce(jsonb_object_agg(p.fingerprint, p.keys), '{}'::jsonb)
			FROM @extschema@._apikey_peppers() p WHERE p.keys > 0) AS peppers
	FROM @extschema@._apikey_stats() s;

CREATE VIEW @extschema@.apikey_stats_codes AS
	SELECT c.code, c.verifications FROM @extschema@._apikey_stats_codes() c;
COMMENT ON VIEW @extschema@.apikey_stats_codes IS
	'How often this server has answered with each code in the current database since its start: every code, zeros included; null where nothing is counted in memory';

CREATE VIEW @extschema@.apikey_peppers AS
	SELECT p.fingerprint, p.place, p.current, p.keys FROM @extschema@._apikey_peppers() p;
COMMENT ON VIEW @extschema@.apikey_peppers IS
	'The peppers of this server, and those that keys are keyed with. Up to 2 MB of digests keys are counted; above that the last count is told, a minute old at most, or a thousand times what counting takes where that is longer; apikey_flush() counts anew';
COMMENT ON COLUMN @extschema@.apikey_peppers.fingerprint IS
	'Four bytes by which rows say which pepper they are keyed with; 00000000: the empty one';
COMMENT ON COLUMN @extschema@.apikey_peppers.place IS
	'Its line in the file, or in what the command prints; null where it is not there: its keys are unavailable, but those of 00000000';
COMMENT ON COLUMN @extschema@.apikey_peppers.current IS
	'Are new keys keyed with it?';
COMMENT ON COLUMN @extschema@.apikey_peppers.keys IS
	'Keys that are keyed with it, imported ones included';

REVOKE ALL ON @extschema@.apikey_stats_codes, @extschema@.apikey_peppers FROM PUBLIC;
REVOKE ALL ON FUNCTION
	@extschema@._apikey_stats_codes(),
	@extschema@._apikey_peppers(),
	@extschema@.apikey_health()
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@._apikey_stats_codes(),
	@extschema@._apikey_peppers()
	TO PUBLIC;

-- Names of dropped organizations

CREATE TABLE @extschema@.apikey_name_hold (
	id uuid NOT NULL,
	name text COLLATE "C" NOT NULL,
	until timestamptz NOT NULL,
	role regrole,
	role_name text,
	subject text COLLATE "C",
	CONSTRAINT apikey_name_hold_pkey PRIMARY KEY (id)
) USING heap;
COMMENT ON TABLE @extschema@.apikey_name_hold IS
	'Names of dropped organizations that are not everybody''s until then; with a role, and subject, who may have one again';
CREATE INDEX apikey_name_hold_name ON @extschema@.apikey_name_hold (name);
ALTER TABLE @extschema@.apikey_name_hold ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @extschema@.apikey_name_hold FROM PUBLIC;
SELECT pg_extension_config_dump('@extschema@.apikey_name_hold',
	'WHERE role IS NULL OR role::pg_catalog.text OPERATOR(pg_catalog.!~) ''^[0-9]''');
CREATE TRIGGER apikey_name_hold_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_name_hold
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived('role', 'role_name');
ALTER TABLE @extschema@.apikey_name_hold ENABLE REPLICA TRIGGER apikey_name_hold_arrived;
CREATE TRIGGER apikey_name_hold_named BEFORE INSERT ON @extschema@.apikey_name_hold
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_named('role', 'role_name');
ALTER TABLE @extschema@.apikey_name_hold ENABLE ALWAYS TRIGGER apikey_name_hold_named;

-- Tokens

CREATE FUNCTION @extschema@.apikey_token_create(key text, ttl interval DEFAULT '15 minutes',
		scopes text[] DEFAULT NULL)
	RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_token_create(text, interval, text[]) IS
	'Returns a token, which verifies like the key whose text is given, for that long (1 second to 24 hours) and with no more than the scopes named; null: the key''s at each use. 28000: the key does not verify, or does not grant the scopes, with the code in the detail; 55000: there is no pepper. Where a handle and a digest are asked for, the token is the handle, and the digest null.';

CREATE FUNCTION @extschema@.apikey_scan(content text)
	RETURNS TABLE (masked_key text, key_id uuid, code text, at integer)
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_scan(text) IS
	'The keys and tokens in any text that the caller may see, masked: what a verification would say that names whose they are, and at which character, from 1, each begins. Spends and counts nothing. 22023: the caller''s subject cannot be read; 55000: a pepper that cannot be used.';

COMMENT ON FUNCTION @extschema@.apikey_id(text) IS
	'The id that an API key, or a token of it, carries; null where its shape is wrong. Reads no table.';
COMMENT ON FUNCTION @extschema@.apikey_parse(text) IS
	'The parts of an API key or a token of one: prefix, id, and whether the CRC-32 checksum is right; null, null, false where its shape is wrong. Reads no table.';

REVOKE ALL ON FUNCTION @extschema@.apikey_scan(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apikey_scan(text) TO PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_token_create(text, interval, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.apikey_token_create(text, interval, text[]) TO PUBLIC;
DROP TRIGGER apikey_import_changed ON @extschema@.apikey_import;
CREATE TRIGGER apikey_import_changed AFTER INSERT OR UPDATE OR DELETE ON @extschema@.apikey_import
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_changed();
ALTER TABLE @extschema@.apikey_import ENABLE ALWAYS TRIGGER apikey_import_changed;

-- Servers

-- Servers that verify beside the primary.  What they are, and have leased, is a
-- cluster's own: it is not dumped.
CREATE TABLE @extschema@.apikey_server (
	id uuid NOT NULL,
	name text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	version text NOT NULL,
	token uuid,
	epoch bigint NOT NULL,
	sequence bigint NOT NULL,
	first_seen_at timestamptz NOT NULL,
	seen_at timestamptz NOT NULL,
	last_report_at timestamptz,
	uses bigint NOT NULL,
	lag interval,
	lost_at timestamptz,
	CONSTRAINT apikey_server_pkey PRIMARY KEY (id)
) USING heap WITH (fillfactor = 50);
COMMENT ON TABLE @extschema@.apikey_server IS
	'The servers that verify keys of this database; read them through the view apikey_servers';
CREATE UNIQUE INDEX apikey_server_name ON @extschema@.apikey_server (name);

CREATE TABLE @extschema@.apikey_server_lease (
	id uuid NOT NULL,
	server uuid NOT NULL,
	account uuid NOT NULL,
	number bigint NOT NULL,
	granted bigint NOT NULL,
	amount bigint NOT NULL,
	generation bigint NOT NULL,
	until timestamptz,
	left_over bigint NOT NULL,
	granted_at timestamptz NOT NULL,
	CONSTRAINT apikey_server_lease_pkey PRIMARY KEY (id)
) USING heap WITH (fillfactor = 70);
COMMENT ON TABLE @extschema@.apikey_server_lease IS
	'Credits that are leased to other servers, a row a server and account';
CREATE INDEX apikey_server_lease_server ON @extschema@.apikey_server_lease (server);
CREATE INDEX apikey_server_lease_granted_at ON @extschema@.apikey_server_lease (granted_at);

CREATE TABLE @extschema@.apikey_beat (
	id uuid NOT NULL,
	number bigint NOT NULL,
	at timestamptz NOT NULL,
	CONSTRAINT apikey_beat_pkey PRIMARY KEY (id)
) USING heap WITH (fillfactor = 10);
COMMENT ON TABLE @extschema@.apikey_beat IS
	'A number that rises: a subscriber to which it has come has all that was committed before';

CREATE FUNCTION @extschema@.apikey_server_join(server uuid, tokens uuid[], new_token uuid,
		name text, kind text, version text, system bigint, keep boolean,
		OUT known boolean, OUT epoch bigint, OUT sequence bigint, OUT system_here bigint,
		OUT timeline integer, OUT server_name text)
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_join(uuid, uuid[], uuid, text, text, text, bigint, boolean) IS
	'For other servers'' workers: joins, or joins anew. server: its id; tokens: any may be that of its last join, none before the first; new_token: that of this one; name: how it is called; kind: standby or subscriber; version: of its library; system: its system identifier; keep: false forfeits what was leased to it. known is false where the id is not this server''s any more. 22023, 22004: a bad argument; 54000: too many servers; 55000: not the primary, or another cluster''s standby.';

CREATE FUNCTION @extschema@.apikey_server_beat(server uuid, epoch bigint, by_row boolean,
		OUT wal pg_lsn, OUT number bigint, OUT age_ms bigint)
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_beat(uuid, bigint, boolean) IS
	'For other servers'' workers: how far this server has come. server, epoch: who asks; by_row: also by the row of apikey_beat, and how old that is. 22004: a null; 55000: not the primary, or the server has not joined.';

CREATE FUNCTION @extschema@.apikey_server_report(server uuid, epoch bigint, sequence bigint,
		lag interval, keys uuid[], uses bigint[], denials bigint[], last_used_at timestamptz[],
		last_used_addr inet[], counted uuid[], of_unit boolean[], names text[], counts bigint[],
		denied uuid[], codes text[], denied_counts bigint[], actors text[], denied_addrs inet[],
		marked uuid[] DEFAULT '{}', mark_kinds text[] DEFAULT '{}', mark_keys uuid[] DEFAULT '{}',
		mark_amounts bigint[] DEFAULT '{}')
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_report(uuid, bigint, bigint, interval, uuid[], bigint[], bigint[], timestamptz[], inet[], uuid[], boolean[], text[], bigint[], uuid[], text[], bigint[], text[], inet[], uuid[], text[], uuid[], bigint[]) IS
	'For other servers'' workers: carries what one has gathered into the tables, and returns true; false where the report of this sequence was applied before. server, epoch: who reports; lag: how far it is behind; keys, uses, denials, last_used_at, last_used_addr: the use of each key; counted, of_unit, names, counts: what else the history counts, refusals by code and, of_unit, what was spent; denied, codes, denied_counts, actors, denied_addrs: the events of refusals; marked, mark_kinds, mark_keys, mark_amounts: limits that are low or exhausted, and by which key what charge was dropped (overdrawn). Keys that are gone are left out. 22023, 22004: a bad argument, or more than 1,000 elements; 55P03: rows are locked, the keys'' ids in the detail; 55000: not the primary, or the server has not joined in this epoch.';

CREATE FUNCTION @extschema@.apikey_server_rehash(server uuid, epoch bigint, keys uuid[], proofs bytea[])
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_rehash(uuid, bigint, uuid[], bytea[]) IS
	'For other servers'' workers: keys that they have verified by a pepper that is not the current one get a digest by that; returns of how many. server, epoch: who tells; keys, proofs: of each key SHA-256 of its text, XOR HMAC-SHA-256(current pepper, what is stored of it || ''apikey proof v1''); what proves no key is left out. 22023, 22004: a bad argument, or more than 100; 55000: not the primary, or the server has not joined in this epoch.';

CREATE FUNCTION @extschema@.apikey_server_lease(server uuid, epoch bigint, accounts uuid[],
		numbers bigint[], held_numbers bigint[], held bigint[], wanted_least bigint[], wanted_most bigint[],
		charging boolean[])
	RETURNS TABLE (account uuid, state text, number bigint, granted bigint, left_over bigint,
		generation bigint, remaining_ms bigint)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_lease(uuid, bigint, uuid[], bigint[], bigint[], bigint[], bigint[], bigint[], boolean[]) IS
	'For other servers'' workers: leases credits, quotas and balances, a row for each of accounts in their order. server, epoch: to whom; numbers: chosen by it, the same again where the answer was lost; held_numbers, held: the lease that it has, and what is not spent of it; wanted_least, wanted_most: how much more it wants; charging: an account may be overdrawn. state: granted, fresh (what is held is void), short, void, busy or gone. 22023, 22004: a bad argument, or more than 1,000 elements; 55000: not the primary, or the server has not joined in this epoch.';

CREATE FUNCTION @extschema@.apikey_server_return(server uuid, epoch bigint, accounts uuid[],
		numbers bigint[], unspent bigint[])
	RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_return(uuid, bigint, uuid[], bigint[], bigint[]) IS
	'For other servers'' workers: gives back what is unspent of the leases of these numbers of accounts, and returns how many there were. server, epoch: who gives. 22023, 22004: a bad argument; 55P03: accounts are locked, their ids in the detail; 55000: not the primary, or the server has not joined in this epoch.';

CREATE FUNCTION @extschema@.apikey_server_take(server uuid, epoch bigint, limits uuid[],
		wanted_least bigint[], wanted_most bigint[], charging boolean[])
	RETURNS TABLE (limit_id uuid, granted bigint, wait_ms bigint)
	LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_take(uuid, bigint, uuid[], bigint[], bigint[], boolean[]) IS
	'For other servers'' workers: tokens of shared rates, which are good for a second from when they are asked for. server, epoch: who asks; limits: ids; wanted_least, wanted_most: how many; charging: into debt. Where none are granted, none will be for wait_ms; null: there is no such rate. 22023, 22004: a bad argument, or more than 1,000 elements; 55000: not the primary, the library is not preloaded, or the server has not joined in this epoch.';

CREATE FUNCTION @extschema@.apikey_server_forget(name text)
	RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@.apikey_server_forget(text) IS
	'Forgets the server of this name in apikey_servers; what was leased to it is given back to nobody. Returns false where there is none. 22004: a null; 55000: it is the primary, or this is a standby.';

CREATE FUNCTION @extschema@._apikey_servers()
	RETURNS TABLE (name text, role text, version text, first_seen_at timestamptz,
		last_report_at timestamptz, uses bigint, leased jsonb, lag interval)
	LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 5 AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION @extschema@._apikey_servers() IS
	'The servers that verify keys of this database';

CREATE TRIGGER apikey_server_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_server
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_server_lease_arrived BEFORE INSERT ON @extschema@.apikey_server_lease
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
CREATE TRIGGER apikey_beat_arrived BEFORE INSERT OR UPDATE ON @extschema@.apikey_beat
	FOR EACH ROW EXECUTE FUNCTION @extschema@._apikey_arrived();
ALTER TABLE @extschema@.apikey_server ENABLE REPLICA TRIGGER apikey_server_arrived;
ALTER TABLE @extschema@.apikey_server_lease ENABLE REPLICA TRIGGER apikey_server_lease_arrived;
ALTER TABLE @extschema@.apikey_beat ENABLE REPLICA TRIGGER apikey_beat_arrived;
ALTER TABLE @extschema@.apikey_server ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.apikey_server_lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.apikey_beat ENABLE ROW LEVEL SECURITY;

CREATE VIEW @extschema@.apikey_servers AS
	SELECT s.name, s.role, s.version, s.first_seen_at, s.last_report_at, s.uses, s.leased, s.lag
		FROM @extschema@._apikey_servers() s;
COMMENT ON VIEW @extschema@.apikey_servers IS
	'The servers that verify keys of this database: the primary, and those that report to it';
COMMENT ON COLUMN @extschema@.apikey_servers.name IS
	'apikey.server_name, cluster_name, or its host''s name and the port; with a number where two have the same';
COMMENT ON COLUMN @extschema@.apikey_servers.role IS
	'primary, standby or subscriber';
COMMENT ON COLUMN @extschema@.apikey_servers.version IS
	'Of its library';
COMMENT ON COLUMN @extschema@.apikey_servers.first_seen_at IS
	'When it joined';
COMMENT ON COLUMN @extschema@.apikey_servers.last_report_at IS
	'When it last reported; of the primary when it last wrote uses';
COMMENT ON COLUMN @extschema@.apikey_servers.uses IS
	'Uses that it has reported; of the primary those that it has written';
COMMENT ON COLUMN @extschema@.apikey_servers.leased IS
	'Credits, quotas and balances that it may spend without asking, by unit';
COMMENT ON COLUMN @extschema@.apikey_servers.lag IS
	'How far it was behind the primary when it last reported';

REVOKE ALL ON @extschema@.apikey_server FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_server_lease FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_beat FROM PUBLIC;
REVOKE ALL ON @extschema@.apikey_servers FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@._apikey_servers() FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_join(uuid, uuid[], uuid, text, text, text, bigint, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_beat(uuid, bigint, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_forget(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_take(uuid, bigint, uuid[], bigint[], bigint[], boolean[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_lease(uuid, bigint, uuid[], bigint[], bigint[], bigint[], bigint[], bigint[], boolean[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_return(uuid, bigint, uuid[], bigint[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_report(uuid, bigint, bigint, interval, uuid[], bigint[], bigint[], timestamptz[], inet[], uuid[], boolean[], text[], bigint[], uuid[], text[], bigint[], text[], inet[], uuid[], text[], uuid[], bigint[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.apikey_server_rehash(uuid, bigint, uuid[], bytea[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@._apikey_servers() TO PUBLIC;

-- What roles may do with what was made

-- Default privileges (ALTER DEFAULT PRIVILEGES) may have given it away: of what
-- this script has made, and of nothing else, all is taken back.
DO $$
DECLARE
	before text[] := current_setting('apikey_update.members');
	given record;
BEGIN
	FOR given IN
		SELECT kind, name, a.grantee
			FROM (SELECT 'TABLE', c.oid::regclass::text, c.relowner, c.relacl, 'pg_class'::regclass, c.oid
					FROM pg_class c
				  UNION ALL
				  SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner, p.proacl, 'pg_proc'::regclass, p.oid
					FROM pg_proc p
				  UNION ALL
				  SELECT 'TYPE', t.oid::regtype::text, t.typowner, t.typacl, 'pg_type'::regclass, t.oid
					FROM pg_type t) AS o (kind, name, owner, acl, class, oid)
			JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
			JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
				AND e.extname = 'apikey',
			LATERAL (SELECT DISTINCT x.grantee FROM aclexplode(o.acl) x) AS a
			WHERE a.grantee NOT IN (0, o.owner) AND d.classid || ' ' || d.objid <> ALL (before)
	LOOP
		EXECUTE format('REVOKE ALL ON %s %s FROM %I', given.kind, given.name,
			pg_get_userbyid(given.grantee));
	END LOOP;
END
$$;
-- Whoever may read the statistics may read these too.
DO $$
DECLARE
	given record;
BEGIN
	FOR given IN
		SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
			CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
			FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
				AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
			JOIN pg_class c ON c.oid = d.objid AND c.relname = 'apikey_stats',
			LATERAL aclexplode(c.relacl) AS a
			WHERE e.extname = 'apikey' AND a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
			ORDER BY 2 DESC
	LOOP
		EXECUTE format('GRANT SELECT ON @extschema@.apikey_servers, @extschema@.apikey_stats_codes, @extschema@.apikey_peppers TO %s%s',
			given.role, given.option);
		EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.apikey_health() TO %s%s',
			given.role, given.option);
	END LOOP;
	EXECUTE format('GRANT EXECUTE ON FUNCTION @extschema@.apikey_flush(), '
		'@extschema@.apikey_server_join(uuid, uuid[], uuid, text, text, text, bigint, boolean), '
		'@extschema@.apikey_server_beat(uuid, bigint, boolean), '
		'@extschema@.apikey_server_take(uuid, bigint, uuid[], bigint[], bigint[], boolean[]), '
		'@extschema@.apikey_server_lease(uuid, bigint, uuid[], bigint[], bigint[], bigint[], bigint[], bigint[], boolean[]), '
		'@extschema@.apikey_server_return(uuid, bigint, uuid[], bigint[], bigint[]), '
		'@extschema@.apikey_server_report(uuid, bigint, bigint, interval, uuid[], bigint[], bigint[], timestamptz[], inet[], uuid[], boolean[], text[], bigint[], uuid[], text[], bigint[], text[], inet[], uuid[], text[], uuid[], bigint[]), '
		'@extschema@.apikey_server_rehash(uuid, bigint, uuid[], bytea[]), '
		'@extschema@.apikey_server_forget(text) TO %I WITH GRANT OPTION',
		(SELECT r.rolname FROM pg_extension e JOIN pg_roles r ON r.oid = e.extowner
			WHERE e.extname = 'apikey'));
END
$$;

-- What the views do not let be done

-- Each column may be tried: the triggers say what to call instead.
DO $$
DECLARE
	tried record;
BEGIN
	FOR tried IN
		SELECT a.attrelid::regclass::text AS view, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
			FROM pg_extension e
			JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
				AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
			JOIN pg_class c ON c.oid = d.objid AND c.relname IN ('apikeys', 'apikey_projects', 'apikey_limits')
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			WHERE e.extname = 'apikey'
			GROUP BY a.attrelid
	LOOP
		EXECUTE format('GRANT INSERT (%s), UPDATE (%1$s) ON %s TO PUBLIC', tried.columns, tried.view);
	END LOOP;
END
$$;

-- What the functions say of themselves

COMMENT ON FUNCTION @extschema@.apikey_create(text, text, text, text, text[],
		@extschema@.apikey_role, timestamptz, timestamptz, text, integer, interval,
		bigint, bigint, interval, cidr[], jsonb, text) IS
	'Makes an API key of the caller or, with project, in a project that it administers, and returns its text, which is stored nowhere. name: unique among the live keys there; description: free text; subject: the application''s user, a label where apikey.subject_setting is empty; scopes: what it grants; role: at most the creator''s, its own by default; starts_at, expires_at: from when, until when; prefix: apikey.prefix by default; rate_limit: how many pass in rate_window (1 second to 31 days); credits, credits_refill, credits_interval: what may be spent, and what it is set to how often; allowed_ips: from where; metadata: returned by verification; accept_terms: repeats the project''s terms. 22023, 22004: a bad argument; 23505: the name is taken; 42704: no such project; 42501: not the caller''s to make, or another''s subject; 53400: the project, or the role, has as many keys as it may; 55000: a rate limit where there is no memory to hold it, or a pepper that cannot be used.';
COMMENT ON FUNCTION @extschema@.apikey_rename(uuid, text) IS
	'Gives the key of this id new_name. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004, 23505: the name is bad, null or taken; 55000: the key is revoked or was rotated.';
COMMENT ON FUNCTION @extschema@.apikey_disable(uuid) IS
	'Makes the key of this id invalid until it is enabled again, and with it one in its grace that it has replaced, for good. Returns false where it was disabled or revoked already. 42704: no such key; 42501: not the caller''s to manage; 22004: a null.';
COMMENT ON FUNCTION @extschema@.apikey_enable(uuid) IS
	'Undoes apikey_disable for the key of this id; returns false where it was not disabled. 42704: no such key; 42501: not the caller''s to manage; 22004: a null; 55000: the key is revoked or was rotated.';
COMMENT ON FUNCTION @extschema@.apikey_revoke(uuid, text) IS
	'Makes the key of this id invalid at once and for good, and with it one in its grace that it has replaced. reason: at most 500 characters, no control character. Returns false where it was revoked already; of two at once both may be told true. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004: a bad reason, a null id.';
COMMENT ON FUNCTION @extschema@.apikey_self_revoke(text, text) IS
	'Revokes the key whose text is given, whoever calls; returns true where this call revoked it, false for everything else. reason: at most 500 characters, no control character. 22023: a bad reason; 55000: a pepper that cannot be used.';
COMMENT ON FUNCTION @extschema@.apikey_delete(uuid, text) IS
	'Removes the key of this id; confirm_name must be its name. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004: another name, a null.';
COMMENT ON FUNCTION @extschema@.apikey_reveal(uuid) IS
	'Returns the text of the key of this id again, if it was made while its project was revealable and the server had a pepper; each call is an event. 42704: no such key; 42501: not the caller''s to manage; 22004: a null; 55000: it cannot be revealed, or was revoked.';
COMMENT ON FUNCTION @extschema@.apikey_purge(interval) IS
	'Removes the keys that were revoked or expired longer ago than older_than, of those that the caller may delete, and returns how many. 22023, 22004: a negative interval, a null.';
COMMENT ON FUNCTION @extschema@.apikey_events_purge(interval) IS
	'Removes the events that are older than older_than, for superusers, and returns how many. 42501: not a superuser; 22023, 22004: a negative interval, a null.';
COMMENT ON FUNCTION @extschema@.apikey_credits_add(uuid, bigint) IS
	'Adds amount, 1 or more, to the credits of the key of this id; returns what is left then. 42704: no such key; 42501: not the caller''s to manage; 22023, 22004: a bad amount, a null; 55000: the key has no credits, or is revoked.';
COMMENT ON FUNCTION @extschema@.apikey_organization_create(text) IS
	'Makes an organization, whose owner the caller becomes, and returns its id. name: 1 to 64 characters a-z, 0-9 and "-", starting with a letter or digit. 22023, 22004: a bad name; 23505: it is taken.';
COMMENT ON FUNCTION @extschema@.apikey_project_create(text, boolean) IS
	'Makes the project of this path, "organization/project", for the organization''s owners; with default_key also a key called default, whose text it returns, else null. 42704: no such organization; 42501: not its owner; 22023, 22004: a bad path; 23505: it is taken.';
COMMENT ON FUNCTION @extschema@.apikey_member_add(text, regrole,
		@extschema@.apikey_role, text) IS
	'Makes member, with subject that application''s user of it alone, a member of the organization or project of this path, as role, or changes its role, for owners. 42704: no such organization, project or role; 42501: not its owner; 22023, 22004: a bad subject, a null; 55000: an organization must keep an owner.';
COMMENT ON FUNCTION @extschema@.apikey_member_remove(text, regrole, text) IS
	'Takes member, with subject that application''s user of it, from the organization or project of this path, for owners; returns false where it was none. 42704: no such organization or project; 42501: not its owner; 22004: a null; 55000: an organization must keep an owner.';
COMMENT ON FUNCTION @extschema@.apikey_organization_drop(text, text) IS
	'Removes the organization of this path with its projects, members and keys, for owners; the events stay. confirm_name repeats path. Returns true. 42704: no such organization; 42501: not its owner; 22023, 22004: not confirmed.';
COMMENT ON FUNCTION @extschema@.apikey_project_drop(text, text) IS
	'Removes the project of this path with its members and keys, for owners; the events stay. confirm_name repeats path. Returns true. 42704: no such project; 42501: not its owner; 22023, 22004: not confirmed.';
