-- The contract's names, to the letter: functions with their arguments, defaults
-- and results, views with their columns, settings, and what says so of each.
SET client_min_messages = warning;
SET intervalstyle = 'postgres';
CREATE TABLE regress_contract (kind text, name text, says text);

-- functions: arguments and their defaults -> result
INSERT INTO regress_contract VALUES
	('function', 'apikey_organization_create', '(name text) -> uuid'),
	('function', 'apikey_project_create', '(path text, default_key boolean DEFAULT false) -> text'),
	('function', 'apikey_member_add', '(path text, member regrole, role apikey_role, subject text DEFAULT NULL::text) -> void'),
	('function', 'apikey_member_remove', '(path text, member regrole, subject text DEFAULT NULL::text) -> boolean'),
	('function', 'apikey_organization_drop', '(path text, confirm_name text) -> boolean'),
	('function', 'apikey_project_drop', '(path text, confirm_name text) -> boolean'),
	('function', 'apikey_project_apply', '(path text) -> bigint'),
	('function', 'apikey_create', '(name text, project text DEFAULT NULL::text, description text DEFAULT NULL::text, subject text DEFAULT NULL::text, scopes text[] DEFAULT ''{}''::text[], role apikey_role DEFAULT NULL::apikey_role, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, prefix text DEFAULT NULL::text, rate_limit integer DEFAULT NULL::integer, rate_window interval DEFAULT ''00:01:00''::interval, credits bigint DEFAULT NULL::bigint, credits_refill bigint DEFAULT NULL::bigint, credits_interval interval DEFAULT NULL::interval, allowed_ips cidr[] DEFAULT NULL::cidr[], metadata jsonb DEFAULT ''{}''::jsonb, accept_terms text DEFAULT NULL::text) -> text'),
	('function', 'apikey_import', '(name text, algorithm text, hash text, lookup text DEFAULT NULL::text, project text DEFAULT NULL::text, description text DEFAULT NULL::text, subject text DEFAULT NULL::text, scopes text[] DEFAULT ''{}''::text[], role apikey_role DEFAULT NULL::apikey_role, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, prefix text DEFAULT NULL::text, rate_limit integer DEFAULT NULL::integer, rate_window interval DEFAULT ''00:01:00''::interval, credits bigint DEFAULT NULL::bigint, credits_refill bigint DEFAULT NULL::bigint, credits_interval interval DEFAULT NULL::interval, allowed_ips cidr[] DEFAULT NULL::cidr[], metadata jsonb DEFAULT ''{}''::jsonb, accept_terms text DEFAULT NULL::text) -> uuid'),
	('function', 'apikey_id', '(key text) -> uuid'),
	('function', 'apikey_parse', '(key text, OUT prefix text, OUT id uuid, OUT checksum_ok boolean) -> record'),
	('function', 'apikey_rename', '(id uuid, new_name text) -> void'),
	('function', 'apikey_disable', '(id uuid) -> boolean'),
	('function', 'apikey_enable', '(id uuid) -> boolean'),
	('function', 'apikey_revoke', '(id uuid, reason text DEFAULT NULL::text) -> boolean'),
	('function', 'apikey_self_revoke', '(key text, reason text DEFAULT NULL::text) -> boolean'),
	('function', 'apikey_delete', '(id uuid, confirm_name text) -> void'),
	('function', 'apikey_rotate', '(id uuid, grace interval DEFAULT ''00:00:00''::interval, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) -> text'),
	('function', 'apikey_transfer', '(id uuid, new_owner regrole, subject text DEFAULT NULL::text) -> void'),
	('function', 'apikey_credits_add', '(id uuid, amount bigint) -> bigint'),
	('function', 'apikey_reveal', '(id uuid) -> text'),
	('function', 'apikey_authenticate_digest', '(handle text, digest bytea, scopes text[] DEFAULT NULL::text[], project text DEFAULT NULL::text, min_role apikey_role DEFAULT NULL::apikey_role, client_addr inet DEFAULT NULL::inet, cost integer DEFAULT 1, owner regrole DEFAULT NULL::regrole, costs jsonb DEFAULT NULL::jsonb) -> uuid'),
	('function', 'apikey_verify', '(key text, scopes text[] DEFAULT NULL::text[], project text DEFAULT NULL::text, min_role apikey_role DEFAULT NULL::apikey_role, client_addr inet DEFAULT NULL::inet, cost integer DEFAULT 1, owner regrole DEFAULT NULL::regrole, costs jsonb DEFAULT NULL::jsonb) -> SETOF apikey_verification'),
	('function', 'apikey_verify_digest', '(handle text, digest bytea, scopes text[] DEFAULT NULL::text[], project text DEFAULT NULL::text, min_role apikey_role DEFAULT NULL::apikey_role, client_addr inet DEFAULT NULL::inet, cost integer DEFAULT 1, owner regrole DEFAULT NULL::regrole, costs jsonb DEFAULT NULL::jsonb) -> SETOF apikey_verification'),
	('function', 'apikey_check', '(key text, scopes text[] DEFAULT NULL::text[], project text DEFAULT NULL::text, owner regrole DEFAULT NULL::regrole, client_addr inet DEFAULT NULL::inet) -> boolean'),
	('function', 'apikey_authenticate', '(key text, scopes text[] DEFAULT NULL::text[], project text DEFAULT NULL::text, min_role apikey_role DEFAULT NULL::apikey_role, client_addr inet DEFAULT NULL::inet, cost integer DEFAULT 1, owner regrole DEFAULT NULL::regrole, costs jsonb DEFAULT NULL::jsonb) -> uuid'),
	('function', 'apikey_pre_request', '() -> void'),
	('function', 'apikey_current_key', '() -> uuid'),
	('function', 'apikey_current_project', '() -> text'),
	('function', 'apikey_current_owner', '() -> name'),
	('function', 'apikey_current_subject', '() -> text'),
	('function', 'apikey_current_role', '() -> apikey_role'),
	('function', 'apikey_current_scopes', '() -> text[]'),
	('function', 'apikey_current_metadata', '() -> jsonb'),
	('function', 'apikey_has_scope', '(scope text, project text DEFAULT NULL::text) -> boolean'),
	('function', 'apikey_purge', '(older_than interval) -> bigint'),
	('function', 'apikey_events_purge', '(older_than interval) -> bigint'),
	('function', 'apikey_grant', '(what text, to_role regrole) -> void'),
	('function', 'apikey_ungrant', '(what text, from_role regrole) -> void'),
	('function', 'apikey_flush', '() -> void'),
	('function', 'apikey_server_forget', '(name text) -> boolean'),
	('function', 'apikey_limit_set', '(unit text, amount bigint, period interval, kind text DEFAULT ''rate''::text, key uuid DEFAULT NULL::uuid, path text DEFAULT NULL::text, subject text DEFAULT NULL::text, shared boolean DEFAULT false, overdraft bigint DEFAULT 0) -> uuid'),
	('function', 'apikey_limit_add', '(id uuid, amount bigint) -> bigint'),
	('function', 'apikey_limit_drop', '(id uuid) -> boolean'),
	('function', 'apikey_charge', '(key uuid, costs jsonb, project text DEFAULT NULL::text, owner regrole DEFAULT NULL::regrole) -> void');

-- views and the result of verification: their first columns, in order
INSERT INTO regress_contract VALUES
	('columns', 'apikey_organizations', 'id uuid, name text, role apikey_role, created_at timestamp with time zone'),
	('columns', 'apikey_projects', 'id uuid, path text, role apikey_role, created_at timestamp with time zone, members_can_view boolean, name_pattern text, max_ttl interval, max_keys integer, terms text, revealable boolean, max_idle interval'),
	('columns', 'apikey_members', 'path text, member regrole, subject text, role apikey_role, created_at timestamp with time zone, created_by text'),
	('columns', 'apikeys', 'id uuid, name text, masked_key text, description text, status text, project text, owner name, subject text, role apikey_role, scopes text[], created_at timestamp with time zone, starts_at timestamp with time zone, expires_at timestamp with time zone, last_used_at timestamp with time zone, last_used_addr inet, use_count bigint, denied_count bigint, rate_limit integer, rate_window interval, credits bigint, credits_refill bigint, credits_interval interval, allowed_ips cidr[], metadata jsonb, revoked_at timestamp with time zone, revoke_reason text, rotated_to uuid, effective_role apikey_role, created_by name, created_by_subject text, updated_at timestamp with time zone, revealable boolean, accepted_terms text, vouched_by name, vouched_by_subject text'),
	('columns', 'apikey_events', 'id bigint, at timestamp with time zone, event text, key_id uuid, key_name text, project text, actor name, actor_subject text, client_addr inet, detail jsonb, key_subject text'),
	('columns', 'apikey_limits', 'id uuid, key_id uuid, path text, role_name name, subject text, unit text, kind text, amount bigint, period interval, shared boolean, overdraft bigint, remaining bigint, resets_at timestamp with time zone, created_at timestamp with time zone, created_by name'),
	('columns', 'apikey_usage_history', 'key_id uuid, key_name text, project text, subject text, starts_at timestamp with time zone, step interval, use_count bigint, denied jsonb, spent jsonb'),
	('columns', 'apikey_servers', 'name text, role text, version text, first_seen_at timestamp with time zone, last_report_at timestamp with time zone, uses bigint, leased jsonb, lag interval'),
	('columns', 'apikey_stats', 'since timestamp with time zone, verifications jsonb, tracked_keys bigint, evictions bigint, not_attributed bigint, last_flush_at timestamp with time zone, peppers jsonb'),
	('columns', 'apikey_verification', 'valid boolean, code text, key_id uuid, name text, project text, owner name, subject text, role apikey_role, scopes text[], metadata jsonb, expires_at timestamp with time zone, credits bigint, rate_remaining integer, rate_reset_at timestamp with time zone, detail jsonb');

CREATE VIEW regress_made AS
	SELECT 'function' AS kind, proname::text COLLATE "C" AS name,
			format('(%s) -> %s', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)) AS says
		FROM pg_proc p
		JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'apikey'
		WHERE proname ~ '^apikey'
	UNION ALL
	SELECT 'columns', c.relname::text, string_agg(format('%s %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped
		WHERE c.relkind IN ('v', 'c') AND c.relname ~ '^apikey'
		GROUP BY c.relname;
-- what the contract says and is not so
SELECT c.kind, c.name, c.says, m.says AS made
	FROM regress_contract c LEFT JOIN regress_made m USING (kind, name)
	WHERE m.says IS NULL OR left(m.says, length(c.says)) <> c.says
	ORDER BY 1, 2;
-- each name once: an overload is a trap
SELECT name FROM regress_made WHERE kind = 'function' GROUP BY 1 HAVING count(*) > 1;

-- enums, in their order
SELECT enum_range(NULL::apikey_role);
-- how they may be called and planned
SELECT proname COLLATE "C" AS proname, provolatile, proretset, prorows FROM pg_proc
	WHERE proname IN ('apikey_id', 'apikey_parse', 'apikey_verify', 'apikey_verify_digest', 'apikey_check') ORDER BY 1;

-- settings: who may set each, the unit, the default
SELECT apikey_id('none');
SELECT name COLLATE "C" AS name, vartype, context, unit, boot_val FROM pg_settings
	WHERE name IN ('apikey.subject_setting', 'apikey.prefix', 'apikey.pepper_file', 'apikey.request_project',
		'apikey.request_owner', 'apikey.flush_interval', 'apikey.usage_interval', 'apikey.notify', 'apikey.redact',
		'apikey.cache_memory', 'apikey.event_retention', 'apikey.max_keys_per_role', 'apikey.import_secret_file', 'apikey.server_name', 'apikey.server_timeout') ORDER BY 1;

-- who may do what is nobody's to begin with, and everybody's; the rest is granted
SELECT c.name, coalesce(string_agg(a.grantee::regrole::text || ' ' || a.privilege_type, ', '), 'nobody') AS "not PUBLIC"
	FROM regress_contract c
	JOIN pg_proc p ON p.proname = c.name
	LEFT JOIN LATERAL aclexplode(p.proacl) a ON a.grantee <> p.proowner
	WHERE c.kind = 'function' AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
	GROUP BY 1 ORDER BY 1;
SELECT name, has_table_privilege('public', name, 'SELECT') AS "PUBLIC", has_table_privilege('pg_monitor', name, 'SELECT') AS pg_monitor
	FROM regress_contract WHERE kind = 'columns' AND name <> 'apikey_verification' ORDER BY 1;

-- each function says in its comment what its arguments are, what it returns,
-- and what it raises
SELECT name FROM regress_contract c JOIN pg_proc p ON p.proname = c.name
	WHERE c.kind = 'function' AND (
		obj_description(p.oid, 'pg_proc') IS NULL
		OR EXISTS (SELECT FROM unnest(p.proargnames[1:p.pronargs]) AS argument
			WHERE obj_description(p.oid, 'pg_proc') !~ ('\m' || argument || '\M')))
	ORDER BY 1;

DROP VIEW regress_made;
DROP TABLE regress_contract;
