-- The contract, section 3, by a program that knows only that: what a key is, how
-- it is made, changed, replaced and ended, and what the view says of it.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE ROLE regress_apikey_kate;
CREATE ROLE regress_apikey_lars;
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO regress_apikey_kate;
CREATE FUNCTION regress_try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	col text;
	rule text;
BEGIN
	EXECUTE query INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS col = COLUMN_NAME, rule = CONSTRAINT_NAME;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(col, ''), nullif(rule, ''));
END $$;

-- The text: shape, base-62 digits of id, secret and CRC-32; the vector
SELECT apikey_id('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
SELECT n, prefix, id, checksum_ok FROM (VALUES
	(1, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	(2, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQl'),	-- checksum
	(3, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr3zzzzzz'),	-- of 2^32 or more
	(4, 'ak_zzzzzzzzzzzzzzzzzzzzzzSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),	-- id of 2^128 or more
	(5, 'AK_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	(6, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQ'),
	(7, ''),
	(8, NULL)) AS t (n, key), apikey_parse(key) ORDER BY n;
SELECT apikey_id(NULL) IS NULL AS no_id;
SET ROLE regress_apikey_kate;
SELECT apikey_create('native') AS native \gset
SELECT :'native' ~ '^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$' AS shape, left(:'native', 3) AS prefix,
	substr(apikey_id(:'native')::text, 15, 1) AS version;
RESET ROLE;
SELECT digest = hmac(digest(:'native', 'sha256'), '', 'sha256') AS as_pgcrypto, pepper FROM apikey_digest WHERE id = apikey_id(:'native');

-- Making
SET ROLE regress_apikey_kate;
SELECT apikey_organization_create('corp') IS NOT NULL AS created, apikey_project_create('corp/site');
SELECT n, regress_try(format('SELECT apikey_create(%s) IS NOT NULL', arguments)) FROM (VALUES
	(1, $$NULL$$),
	(2, $$'a'$$),
	(3, $$repeat('a', 64)$$),
	(4, $$repeat('a', 65)$$),
	(5, $$'native'$$),
	(6, $$'with space'$$),
	(7, $$'Ärger'$$),
	(8, $$'हिन्दी'$$),
	(9, $$U&'zero\200Bwidth'$$),
	(10, $$'no', 'corp/none'$$),
	(11, $$'no', role => 'developer'$$),
	(12, $$'no', description => repeat('x', 100000)$$),
	(13, $$'no', scopes => NULL$$),
	(14, $$'no', scopes => '{a b}'$$),
	(15, $$'no', scopes => '{a*}'$$),
	(16, $$'no', scopes => '{*:a}'$$),
	(17, $$'scopes', scopes => '{*,a:*,a:b:*}'$$),
	(18, $$'no', scopes => '{""}'$$),
	(19, $$'no', scopes => ARRAY[repeat('a', 201)]$$),
	(20, $$'no', scopes => ARRAY[NULL]::text[]$$),
	(21, $$'no', expires_at => now()$$),
	(22, $$'no', expires_at => 'infinity'$$),
	(23, $$'no', starts_at => '-infinity'$$),
	(24, $$'no', expires_at => '10000-01-01'$$),
	(25, $$'no', starts_at => now() + interval '2 days', expires_at => now() + interval '1 day'$$),
	(26, $$'no', prefix => 'Ak'$$),
	(27, $$'no', prefix => ''$$),
	(28, $$'no', prefix => repeat('a', 21)$$),
	(29, $$'prefix', prefix => repeat('a', 20)$$),
	(30, $$'no', rate_limit => 0$$),
	(31, $$'no', rate_limit => 5, rate_window => '0.5 seconds'$$),
	(32, $$'no', rate_limit => 5, rate_window => '32 days'$$),
	(33, $$'no', rate_limit => 5, rate_window => '1 month'$$),
	(34, $$'no', rate_window => NULL$$),
	(35, $$'no', credits => -1$$),
	(36, $$'no', credits_refill => 5$$),
	(37, $$'no', credits => 5, credits_refill => 5$$),
	(38, $$'credits', credits => 5, credits_refill => 10, credits_interval => '1 month'$$),
	(39, $$'no', allowed_ips => ARRAY[NULL]::cidr[]$$),
	(40, $$'no', metadata => NULL$$),
	(41, $$'no', metadata => '[]'$$),
	(42, $$'no', accept_terms => 'yes'$$),
	(43, $$'no', subject => ''$$),
	(44, $$'subject', subject => 'u1'$$),
	(45, $$'prefix', subject => 'u1'$$)	-- another personal owner
	) AS a (n, arguments) ORDER BY n;
-- what the project gives: the creator's role, and never above it
SELECT regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_create('top', 'corp/site') IS NOT NULL$$),
	(2, $$SELECT concat_ws(' ', role, effective_role, owner, vouched_by, created_by) FROM apikeys WHERE name = 'top'$$),
	(3, $$SELECT apikey_member_add('corp/site', 'regress_apikey_lars', 'admin')$$)
	) AS q (n, query) ORDER BY n;
SET ROLE regress_apikey_lars;
SELECT regress_try($$SELECT apikey_create('above', 'corp/site', role => 'owner')$$);
SELECT regress_try($$SELECT apikey_create('larss', 'corp/site') IS NOT NULL$$);
SELECT role FROM apikeys WHERE name = 'larss';

-- No such key, or none that the caller may know of: one text; known: 42501
SELECT apikey_id(:'native') AS native_id \gset
CREATE TEMP TABLE calls (n int, call text);
INSERT INTO calls VALUES (1, 'SELECT apikey_rename(%s, ''x2'')'), (2, 'SELECT apikey_disable(%s)'), (3, 'SELECT apikey_enable(%s)'),
	(4, 'SELECT apikey_revoke(%s)'), (5, 'SELECT apikey_delete(%s, ''native'')'), (6, 'SELECT apikey_rotate(%s)'),
	(7, 'SELECT apikey_transfer(%s, ''regress_apikey_lars'')'), (8, 'SELECT apikey_credits_add(%s, 1)'), (9, 'SELECT apikey_reveal(%s)');
SELECT n, replace(regress_try(format(call, quote_literal(:'native_id'))), :'native_id', 'ID') AS anothers,
		replace(regress_try(format(call, quote_literal('00000000-0000-0000-0000-000000000000'))), '00000000-0000-0000-0000-000000000000', 'ID') AS nobodys,
		regress_try(format(call, 'NULL')) AS "null"
	FROM calls ORDER BY n;

-- Changing, ending
SET ROLE regress_apikey_kate;
CREATE FUNCTION pg_temp.id_of(name text) RETURNS uuid VOLATILE LANGUAGE sql AS $$SELECT id FROM apikeys k WHERE k.name = $1 ORDER BY created_at DESC LIMIT 1$$;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_rename(pg_temp.id_of('native'), 'renamed')$$),
	(2, $$SELECT apikey_rename(pg_temp.id_of('renamed'), NULL)$$),
	(3, $$SELECT apikey_rename(pg_temp.id_of('renamed'), 'scopes')$$),
	(4, $$SELECT apikey_disable(pg_temp.id_of('renamed'))$$),
	(5, $$SELECT apikey_disable(pg_temp.id_of('renamed'))$$),
	(6, $$SELECT status FROM apikeys WHERE name = 'renamed'$$),
	(7, $$SELECT apikey_enable(pg_temp.id_of('renamed'))$$),
	(8, $$SELECT apikey_enable(pg_temp.id_of('renamed'))$$),
	(9, $$SELECT apikey_revoke(pg_temp.id_of('renamed'), repeat('x', 501))$$),
	(10, $$SELECT apikey_revoke(pg_temp.id_of('renamed'), E'a\nb')$$),
	(11, $$SELECT apikey_revoke(pg_temp.id_of('renamed'), repeat('x', 500))$$),
	(12, $$SELECT apikey_revoke(pg_temp.id_of('renamed'))$$),
	(13, $$SELECT concat_ws(' ', status, length(revoke_reason), revoked_at IS NOT NULL) FROM apikeys WHERE name = 'renamed'$$),
	(14, $$SELECT regexp_replace(regress_try($q$SELECT apikey_rename(pg_temp.id_of('renamed'), 'x2')$q$), '"[0-9a-f-]{36}"', 'ID')$$),
	(15, $$SELECT regexp_replace(regress_try($q$SELECT apikey_enable(pg_temp.id_of('renamed'))$q$), '"[0-9a-f-]{36}"', 'ID')$$),
	(16, $$SELECT apikey_disable(pg_temp.id_of('renamed'))$$),
	(17, $$SELECT regexp_replace(regress_try($q$SELECT apikey_rotate(pg_temp.id_of('renamed'))$q$), '"[0-9a-f-]{36}"', 'ID')$$),
	(18, $$SELECT regexp_replace(regress_try($q$UPDATE apikeys SET description = 'x' WHERE name = 'renamed' RETURNING name$q$), '"[0-9a-f-]{36}"', 'ID')$$),
	(19, $$SELECT apikey_delete(pg_temp.id_of('renamed'), 'Renamed')$$),
	(20, $$SELECT apikey_delete(pg_temp.id_of('renamed'), NULL)$$),
	(21, $$SELECT apikey_delete(pg_temp.id_of('renamed'), 'renamed')$$),
	(22, $$SELECT count(*) FROM apikeys WHERE name = 'renamed'$$),
	(23, $$SELECT apikey_self_revoke(NULL)$$),
	(24, $$SELECT apikey_self_revoke('nothing')$$),
	(25, $$SELECT apikey_self_revoke('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk')$$),
	(26, $$SELECT concat_ws(' ', apikey_self_revoke(k, 'leaked'), apikey_self_revoke(k, 'leaked'), (SELECT code FROM apikey_verify(k))) FROM apikey_create('leaked') k$$),
	(27, $$SELECT apikey_self_revoke('nothing', E'\t')$$)
	) AS q (n, query) ORDER BY n;
-- whoever holds it
SELECT apikey_create('held') AS held \gset
SET ROLE regress_apikey_lars;
SELECT apikey_self_revoke(:'held');

-- Rotating
SET ROLE regress_apikey_kate;
SELECT apikey_create('rotor', scopes => '{a}', metadata => '{"m": 1}', description => 'd', allowed_ips => '{10.0.0.0/8}', credits => 5,
	expires_at => now() + interval '10 days') AS rotor \gset
SELECT apikey_rotate(apikey_id(:'rotor'), '1 hour') AS rotor2 \gset
SELECT string_agg(concat_ws(' ', status, scopes, metadata, description, allowed_ips, credits, extract(hour from expires_at - now()), rotated_to = apikey_id(:'rotor2')), E'\n' ORDER BY created_at)
	FROM apikeys WHERE name = 'rotor';
SELECT n, regexp_replace(regress_try(query), '[0-9a-f]{8}-[0-9a-f-]{27}', 'ID') FROM (VALUES
	(1, format($$SELECT apikey_rotate(%L)$$, apikey_id(:'rotor'))),
	(2, format($$SELECT apikey_rename(%L, 'other')$$, apikey_id(:'rotor'))),
	(3, format($$SELECT apikey_enable(%L)$$, apikey_id(:'rotor'))),
	(4, format($$UPDATE apikeys SET description = 'x' WHERE id = %L RETURNING 'set'$$, apikey_id(:'rotor'))),
	(5, format($$SELECT jsonb_object_agg(key, value IS NOT NULL) || jsonb_build_object('code', code, 'to', detail ->> 'rotated_to') FROM apikey_verify(%L, client_addr => '10.0.0.1'), jsonb_each(detail) GROUP BY code, detail$$, :'rotor')),
	(6, format($$SELECT apikey_revoke(%L)$$, apikey_id(:'rotor2'))),
	(7, format($$SELECT code FROM apikey_verify(%L, client_addr => '10.0.0.1')$$, :'rotor')),
	(8, $$SELECT apikey_rotate(pg_temp.id_of('scopes'), NULL)$$),
	(9, $$SELECT apikey_rotate(pg_temp.id_of('scopes'), '-1 second')$$),
	(10, $$SELECT apikey_rotate(pg_temp.id_of('scopes'), '0', 'infinity')$$),
	(11, $$SELECT apikey_rotate(pg_temp.id_of('scopes'), '0', now())$$),
	(12, $$SELECT apikey_rotate(pg_temp.id_of('scopes'), '0', '2090-01-01') IS NOT NULL$$),
	(13, $$SELECT string_agg(concat_ws(' ', status, revoke_reason, date_trunc('year', expires_at)), ', ' ORDER BY created_at) FROM apikeys WHERE name = 'scopes'$$)
	) AS q (n, query) ORDER BY n;
-- a project's key is the rotator's, which vouches; its role the lower; the end is capped and told
UPDATE apikey_projects SET max_ttl = '30 days' WHERE path = 'corp/site';
SET ROLE regress_apikey_lars;
SELECT regexp_replace(regress_try($$SELECT apikey_rotate(id) FROM apikeys WHERE name = 'top'$$), '"[0-9a-f-]{36}"', 'ID');
SET ROLE regress_apikey_kate;
SELECT apikey_rotate(id) IS NOT NULL AS rotated FROM apikeys WHERE name = 'larss';
SET client_min_messages = notice;
SELECT apikey_rotate(id, '0', now() + interval '1 year') IS NOT NULL AS rotated FROM apikeys WHERE name = 'larss' AND status = 'active';
SET client_min_messages = warning;
SELECT owner, vouched_by, role, created_by, expires_at <= clock_timestamp() + interval '30 days' AS capped FROM apikeys WHERE name = 'larss' AND status = 'active';

-- Transferring
SELECT n, regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_transfer(pg_temp.id_of('top'), 'regress_apikey_lars')$$),
	(2, $$SELECT concat_ws(' ', owner, vouched_by, role, effective_role, created_by) FROM apikeys WHERE name = 'top'$$),
	(3, $$SELECT detail FROM apikey_events WHERE event = 'transferred' AND key_name = 'top'$$),
	(4, $$SELECT apikey_transfer(pg_temp.id_of('top'), NULL)$$),
	(5, $$SELECT apikey_transfer(pg_temp.id_of('top'), '4294967294')$$),
	(6, $$SELECT apikey_transfer(pg_temp.id_of('top'), 'pg_monitor')$$),
	(7, $$SELECT apikey_transfer(pg_temp.id_of('subject'), 'regress_apikey_lars')$$)
	) AS q (n, query) ORDER BY n;
RESET ROLE;
SELECT regress_try($$SELECT apikey_transfer(id, current_user::regrole) FROM apikeys WHERE name = 'top'$$);
SELECT regress_try($$SELECT apikey_transfer(id, 'regress_apikey_lars') FROM apikeys WHERE name = 'subject'$$);
SELECT owner, subject, vouched_by FROM apikeys WHERE name = 'subject';

-- UPDATE of the view: these columns and no other, for superusers too
SET ROLE regress_apikey_kate;
SELECT apikey_create('edit', starts_at => now() - interval '1 hour') IS NOT NULL AS created;
SELECT n, regress_try(format($$UPDATE apikeys SET %s WHERE name = 'edit' RETURNING 'set'$$, change)) FROM (VALUES
	(1, $$description = 'new', scopes = '{x}', starts_at = now(), expires_at = now() + interval '1 day', metadata = '{"a": 1}'$$),
	(2, $$allowed_ips = '{192.168.0.0/16}'$$),
	(3, $$rate_limit = 5, rate_window = '1 second'$$),
	(4, $$credits = 5, credits_refill = 5, credits_interval = '1 day'$$),
	(5, $$credits = credits + 1$$),
	(6, $$credits = NULL, credits_refill = NULL, credits_interval = NULL$$),
	(7, $$expires_at = now() - interval '1 day', starts_at = NULL$$),
	(8, $$expires_at = 'infinity'$$),
	(9, $$role = 'developer'$$),
	(10, $$scopes = NULL$$),
	(11, $$rate_window = NULL$$),
	(12, $$metadata = NULL$$),
	(13, $$name = 'x2'$$),
	(14, $$status = 'revoked'$$),
	(15, $$owner = 'regress_apikey_lars'$$),
	(16, $$created_at = now() - interval '1 day'$$),
	(17, $$revoked_at = now() + interval '1 day'$$),
	(18, $$use_count = 7$$),
	(19, $$id = '00000000-0000-0000-0000-000000000000'$$),
	(20, $$vouched_by = 'postgres'$$),
	(21, $$description = description$$)
	) AS c (n, change) ORDER BY n;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$INSERT INTO apikeys (name) VALUES ('x2')$$),
	(2, $$DELETE FROM apikeys WHERE name = 'edit'$$),
	(3, $$SELECT apikey_credits_add(pg_temp.id_of('edit'), 1)$$),
	(4, $$SELECT apikey_credits_add(pg_temp.id_of('credits'), 0)$$),
	(5, $$SELECT apikey_credits_add(pg_temp.id_of('credits'), NULL)$$),
	(6, $$SELECT apikey_credits_add(pg_temp.id_of('credits'), 9223372036854775807)$$),
	(7, $$SELECT apikey_credits_add(pg_temp.id_of('credits'), 3)$$)
	) AS q (n, query) ORDER BY n;
SELECT detail #- '{before,starts_at}' #- '{after,starts_at}' #- '{before,expires_at}' #- '{after,expires_at}' AS detail FROM apikey_events WHERE key_name = 'edit' AND event = 'updated' ORDER BY id LIMIT 2;
RESET ROLE;
SELECT regress_try($$UPDATE apikeys SET name = 'x2' WHERE name = 'edit'$$);
-- updated_at: two forms do not overwrite each other
SET ROLE regress_apikey_kate;
SELECT updated_at AS shown FROM apikeys WHERE name = 'edit' \gset
UPDATE apikeys SET description = 'first' WHERE name = 'edit' AND updated_at = :'shown';
UPDATE apikeys SET description = 'second' WHERE name = 'edit' AND updated_at = :'shown';
SELECT description FROM apikeys WHERE name = 'edit';

-- Importing
SELECT n, regress_try(format('SELECT apikey_import(%s) IS NOT NULL', arguments)) FROM (VALUES
	(1, $$'i1', 'sha256', encode(sha256('old-1'), 'hex')$$),
	(2, $$'i2', 'sha256', encode(sha256('old-1'), 'hex')$$),
	(3, $$'i3', 'sha512', encode(sha512('old-3'), 'hex')$$),
	(4, $$'i4', 'md5', md5('old-4')$$),
	(5, $$'i5', 'crypt', crypt('lookup-5-secret', gen_salt('bf', 4)), 'lookup-5'$$),
	(6, $$'i6', 'crypt', crypt('lookup-6-secret', gen_salt('bf', 4))$$),
	(7, $$'i6', 'crypt', crypt('lookup-6-secret', gen_salt('bf', 4)), 'short'$$),
	(8, $$'i6', 'crypt', crypt('lookup-5-secret', gen_salt('bf', 4)), 'lookup-5'$$),
	(9, $$'i6', 'crypt', crypt('lookup-6-secret', gen_salt('bf', 13)), 'lookup-6'$$),
	(10, $$'i6', 'crypt', crypt('x', gen_salt('md5')), 'lookup-6'$$),
	(11, $$'i6', 'sha1', 'abcd'$$),
	(12, $$'i6', 'sha256', 'abcd'$$),
	(13, $$'i6', NULL, 'abcd'$$),
	(14, $$'i6', 'sha256', NULL$$),
	(15, $$NULL, 'sha256', encode(sha256('old-6'), 'hex')$$)
	) AS a (n, arguments) ORDER BY n;
SELECT key, code, name FROM (VALUES ('old-1'), ('old-3'), ('old-4'), ('lookup-5-secret'), ('lookup-5-other')) AS k (key), apikey_verify(key) ORDER BY key;
RESET ROLE;
SELECT count(*) AS native FROM apikey_import WHERE digest = hmac(sha256('old-1'), '', 'sha256');
SET ROLE regress_apikey_lars;
SELECT regress_try($$SELECT apikey_import('i6', 'sha256', 'abcd')$$);

-- The view
SET ROLE regress_apikey_kate;
SELECT apikey_create('later', starts_at => now() + interval '1 day') AS later, apikey_create('masked', prefix => 'live_x') AS masked \gset
SELECT name, status FROM apikeys WHERE name IN ('later', 'edit', 'rotor', 'top') ORDER BY created_at;
SELECT masked_key LIKE 'live\_x\_%' AND right(masked_key, 4) = right(:'masked', 4) AS masked, length(masked_key) < 20 AS short FROM apikeys WHERE name = 'masked';
SELECT code FROM apikey_verify(:'masked'), generate_series(1, 3);
SELECT code FROM apikey_verify(:'masked', cost => 0);
SELECT code FROM apikey_verify(:'masked', '{missing}');
SELECT use_count, denied_count, last_used_at IS NOT NULL AS used FROM apikeys WHERE name = 'masked';
-- forbidden: the voucher has left
SELECT apikey_member_remove('corp/site', 'regress_apikey_lars');
SELECT name, status, effective_role FROM apikeys WHERE project = 'corp/site' ORDER BY created_at;
-- no digest is to be read
SELECT regress_try($$SELECT count(*) FROM apikey_digest$$);
RESET ROLE;
CREATE ROLE regress_apikey_backup BYPASSRLS IN ROLE pg_read_all_data;
CREATE ROLE regress_apikey_reads IN ROLE pg_read_all_data;
SET ROLE regress_apikey_reads;
SELECT count(*) FROM apikey_digest;
SELECT count(*) FROM apikey_import;
SET ROLE regress_apikey_backup;
SELECT count(*) > 0 AS backup FROM apikey_digest;
RESET ROLE;
-- a role's bound
SET ROLE regress_apikey_lars;
SET apikey.max_keys_per_role = 1;
RESET ROLE;
SET apikey.max_keys_per_role = 1;
SET ROLE regress_apikey_lars;
SELECT regress_try($$SELECT apikey_create('second') IS NOT NULL$$);
RESET ROLE;
RESET apikey.max_keys_per_role;

SET ROLE regress_apikey_kate;
SELECT apikey_organization_drop('corp', 'corp');
RESET ROLE;
DO $$BEGIN PERFORM apikey_delete(id, name) FROM apikeys; END$$;
DELETE FROM apikey_revocation;
DELETE FROM apikey_event;
DROP TABLE calls;
DROP FUNCTION pg_temp.id_of(text);
DROP FUNCTION regress_try(text);
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_kate;
DROP ROLE regress_apikey_kate, regress_apikey_lars, regress_apikey_backup, regress_apikey_reads;
