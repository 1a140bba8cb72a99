-- What each refusal says to a program: SQLSTATE, column (the argument),
-- constraint (the rule), and to a person.
SET intervalstyle = 'postgres';
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_outsider;
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO regress_apikey_olga, regress_apikey_outsider;
CREATE FUNCTION regress_refused(query text, OUT state text, OUT "column" text, OUT rule text, OUT message text,
		OUT detail text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	message := 'not refused';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, "column" = COLUMN_NAME, rule = CONSTRAINT_NAME,
		message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;

END $$;
CREATE TABLE regress_refusals (n serial, query text);
GRANT SELECT ON regress_refusals TO PUBLIC;

SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('shop') IS NOT NULL AS created;
SELECT apikey_project_create('shop/web');
SELECT apikey_project_create('shop/full');
SELECT apikey_create('one') AS one, apikey_create('two') AS two, apikey_create('shops', 'shop/web') AS shops \gset
SELECT apikey_id(:'one') AS one, apikey_id(:'shops') AS shops \gset
UPDATE apikey_projects SET name_pattern = '[a-z]+', max_ttl = '90 days', terms = 'v1' WHERE path = 'shop/web';
UPDATE apikey_projects SET max_keys = 0 WHERE path = 'shop/full';
RESET ROLE;

-- Of a key that is made.
INSERT INTO regress_refusals (query) SELECT 'SELECT apikey_create(' || arguments || ')' FROM (VALUES
	('NULL'),
	('$$a$$'),
	('$$two words$$'),
	('$$one$$'),
	('$$new$$, subject => $$$$'),
	('$$new$$, prefix => $$Ak$$'),
	('$$new$$, role => $$admin$$'),
	('$$new$$, accept_terms => $$v1$$'),
	('$$new$$, description => repeat($$x$$, 1001)'),
	('$$new$$, scopes => NULL'),
	('$$new$$, scopes => $${a b}$$'),
	('$$new$$, scopes => $${{a},{b}}$$'),
	('$$new$$, scopes => $${a,NULL}$$'),
	('$$new$$, scopes => array_fill($$a$$::text, ARRAY[1001])'),
	('$$new$$, allowed_ips => $${}$$'),
	('$$new$$, metadata => NULL'),
	('$$new$$, metadata => to_jsonb(repeat($$x$$, 70000))'),
	('$$new$$, rate_window => NULL'),
	('$$new$$, rate_window => $$1 month$$'),
	('$$new$$, rate_limit => 0'),
	('$$new$$, rate_limit => 1'),
	('$$new$$, credits => -1'),
	('$$new$$, credits => 1, credits_refill => 1'),
	('$$new$$, credits => 1, credits_interval => $$1 day$$'),
	('$$new$$, credits_refill => 1, credits_interval => $$1 day$$'),
	('$$new$$, credits => 1, credits_refill => 0, credits_interval => $$1 day$$'),
	('$$new$$, credits => 1, credits_refill => 1, credits_interval => $$0$$'),
	('$$new$$, expires_at => now()'),
	('$$new$$, expires_at => $$2020-01-01$$'),
	('$$new$$, expires_at => $$infinity$$'),
	('$$new$$, expires_at => $$-infinity$$'),
	('$$new$$, expires_at => $$10000-01-01 00:00 UTC$$'),
	('$$new$$, starts_at => $$infinity$$'),
	('$$new$$, starts_at => $$-infinity$$'),
	('$$new$$, starts_at => $$12000-01-01$$'),
	('$$new$$, starts_at => $$2100-01-02$$, expires_at => $$2100-01-01$$'),
	('$$Web-1$$, $$shop/web$$, accept_terms => $$v1$$, expires_at => now() + $$1 day$$::interval'),
	('$$web$$, $$shop/web$$, expires_at => now() + $$1 day$$::interval'),
	('$$web$$, $$shop/web$$, accept_terms => $$v1$$'),
	('$$web$$, $$shop/web$$, accept_terms => $$v1$$, expires_at => now() + $$91 days$$::interval'),
	('$$shops$$, $$shop/web$$, accept_terms => $$v1$$, expires_at => now() + $$1 day$$::interval'),
	('$$web$$, $$shop/full$$'),
	('$$web$$, $$shop/none$$')) AS calls (arguments);
-- Of one that there is.
INSERT INTO regress_refusals (query) VALUES
	('SELECT apikey_rename(ONE, NULL)'),
	('SELECT apikey_rename(ONE, $$a$$)'),
	('SELECT apikey_rename(ONE, $$two$$)'),
	('SELECT apikey_rename(SHOPS, $$Shops$$)'),
	('SELECT apikey_rename(NULL, $$x$$)'),
	('SELECT apikey_revoke(ONE, repeat($$x$$, 501))'),
	('SELECT apikey_delete(ONE, $$another$$)'),
	('SELECT apikey_rotate(ONE, $$-1 day$$)'),
	('SELECT apikey_rotate(ONE, NULL)'),
	('SELECT apikey_transfer(SHOPS, $$regress_apikey_outsider$$)'),
	('SELECT apikey_transfer(SHOPS, NULL)'),
	('SELECT apikey_credits_add(ONE, 0)'),
	('SELECT apikey_purge($$-1 day$$)'),
	('UPDATE apikeys SET expires_at = $$infinity$$ WHERE id = ONE'),
	('UPDATE apikeys SET starts_at = $$10000-01-01 00:00 UTC$$ WHERE id = ONE'),
	('UPDATE apikeys SET starts_at = now() + $$91 days$$::interval WHERE id = SHOPS'),
	('UPDATE apikeys SET expires_at = now() + $$91 days$$::interval WHERE id = SHOPS'),
	('UPDATE apikeys SET scopes = $${a b}$$ WHERE id = ONE');
-- Of organizations and projects; what is taken is not said to exist.
INSERT INTO regress_refusals (query) VALUES
	('SELECT apikey_organization_create($$Shop$$)'),
	('SELECT apikey_organization_create($$shop$$)'),
	('SELECT apikey_project_create($$shop$$)'),
	('SELECT apikey_project_create($$shop/web$$)'),
	('SELECT apikey_organization_drop($$shop$$, $$shops$$)'),
	('SELECT apikey_member_add($$shop$$, $$regress_apikey_anna$$, NULL)'),
	('SELECT apikey_member_add($$shop$$, $$regress_apikey_anna$$, $$admin$$, $$$$)'),
	('UPDATE apikey_projects SET name_pattern = $$($$ WHERE path = $$shop/web$$'),
	('UPDATE apikey_projects SET max_ttl = $$0$$ WHERE path = $$shop/web$$'),
	('UPDATE apikey_projects SET max_keys = -1 WHERE path = $$shop/web$$'),
	('UPDATE apikey_projects SET terms = $$$$ WHERE path = $$shop/web$$'),
	('UPDATE apikey_projects SET revealable = NULL WHERE path = $$shop/web$$'),
	('SELECT apikey_import($$new$$, $$sha1$$, $$x$$)'),
	('SELECT apikey_import($$new$$, $$sha256$$, $$x$$)'),
	('SELECT apikey_import($$new$$, $$sha256$$, repeat($$0$$, 64), lookup => $$short$$)'),
	('SELECT apikey_verify($$x$$, cost => -1)');
\pset format unaligned
SET ROLE regress_apikey_olga;
SELECT r.query, f.* FROM regress_refusals r,
	regress_refused(replace(replace(query, 'ONE', quote_literal(:'one')), 'SHOPS', quote_literal(:'shops'))) f ORDER BY n;

-- Who may not know of it is told that it is taken, or that there is none, and
-- never both that it exists and that it does not.
SET ROLE regress_apikey_outsider;
SELECT q, f.* FROM (VALUES (1, 'SELECT apikey_organization_create($$shop$$)'), (2, 'SELECT apikey_organization_drop($$shop$$, $$shop$$)'),
	(3, 'SELECT apikey_project_create($$shop/web$$)'), (4, 'SELECT apikey_create($$x$$, $$shop/web$$)')) AS c (n, q), regress_refused(q) f ORDER BY n;
\pset format aligned

-- What a view does not let be done: which function does.
\pset format unaligned
SET ROLE regress_apikey_olga;
CREATE TEMPORARY TABLE regress_writes (n serial, query text);
GRANT SELECT ON regress_writes TO PUBLIC;
INSERT INTO regress_writes (query) VALUES
	('INSERT INTO apikeys (name) VALUES ($$x$$)'),
	('DELETE FROM apikeys'),
	('DELETE FROM apikeys WHERE false'),
	('INSERT INTO apikey_projects (path) VALUES ($$x/y$$)'),
	('DELETE FROM apikey_projects'),
	('INSERT INTO apikey_organizations (name) VALUES ($$x$$)'),
	('UPDATE apikey_organizations SET name = $$x$$'),
	('DELETE FROM apikey_organizations'),
	('INSERT INTO apikey_members (path) VALUES ($$x$$)'),
	('UPDATE apikey_members SET role = $$owner$$'),
	('DELETE FROM apikey_members'),
	('INSERT INTO apikey_events (event) VALUES ($$x$$)'),
	('UPDATE apikey_events SET event = $$x$$'),
	('DELETE FROM apikey_events'),
	('UPDATE apikey_projects SET path = $$shop/x$$'),
	('UPDATE apikey_projects SET role = $$admin$$');
INSERT INTO regress_writes (query) SELECT format('UPDATE apikeys SET %I = %L', attname,
		CASE atttypid WHEN 'uuid'::regtype THEN '00000000-0000-0000-0000-000000000000' WHEN 'timestamptz'::regtype THEN '2001-01-01'
			WHEN 'int8'::regtype THEN '99' WHEN 'inet'::regtype THEN '::1' WHEN 'bool'::regtype THEN 'true' ELSE 'x' END)
	FROM pg_attribute WHERE attrelid = 'apikeys'::regclass AND attname IN ('id', 'name', 'masked_key', 'status', 'project', 'owner', 'subject',
		'created_at', 'use_count', 'revoked_at', 'revoke_reason', 'rotated_to') ORDER BY attnum;
SELECT r.query, f.* FROM regress_writes r, regress_refused(query) f ORDER BY n;
-- superusers are told the same
RESET ROLE;
SELECT count(*) FILTER (WHERE state = '42501'), count(*) FROM regress_writes r, regress_refused(query) f;
SET ROLE regress_apikey_outsider;
-- and nobody can lock a view by that
BEGIN;
LOCK TABLE apikeys IN ROW EXCLUSIVE MODE;
ROLLBACK;
BEGIN;
LOCK TABLE apikeys IN ACCESS EXCLUSIVE MODE;
ROLLBACK;
RESET ROLE;
DROP TABLE regress_writes;
\pset format aligned

-- An import may be of what has ended; an UPDATE may end a key.  Dates that were
-- written before the rule, or the project's, was do not stop other changes.
SET ROLE regress_apikey_olga;
SELECT apikey_import('ended', 'md5', md5('regress-errors'), expires_at => '2020-01-01') IS NOT NULL AS imported;
UPDATE apikeys SET expires_at = '2021-01-01' WHERE name = 'ended' RETURNING status;
RESET ROLE;
UPDATE apikey_key SET expires_at = 'infinity', starts_at = '-infinity' WHERE name IN ('one', 'shops');
SET ROLE regress_apikey_olga;
UPDATE apikeys SET description = 'changed' WHERE name = 'one' RETURNING name, expires_at, description;
UPDATE apikeys SET description = 'changed' WHERE name = 'shops' RETURNING name, expires_at, description;
UPDATE apikeys SET expires_at = now() + interval '1 day', starts_at = NULL WHERE name = 'shops' RETURNING name, starts_at;
UPDATE apikeys SET scopes = '{x}' WHERE name = 'shops' RETURNING name, scopes;

-- What is in no encoding, as pgcrypto makes it of a salt cut in a character, would
-- keep everybody's rows from being restored from a dump.
SELECT what, r.* FROM (VALUES
	('description', $$SELECT apikey_create('broken', description => crypt('x', 'aé'))$$),
	('subject', $$SELECT apikey_create('broken', subject => crypt('x', 'aé'))$$),
	('scope', $$SELECT apikey_create('broken', scopes => ARRAY[crypt('x', 'aé')])$$),
	('metadata', $$SELECT apikey_create('broken', metadata => jsonb_build_object('a', ARRAY[crypt('x', 'aé')]))$$),
	('metadata''s key', $$UPDATE apikeys SET metadata = jsonb_build_object(crypt('x', 'aé'), 1) WHERE name = 'one'$$),
	('reason', $$SELECT apikey_revoke(id, crypt('x', 'aé')) FROM apikeys WHERE name = 'one'$$)) v (what, query),
	LATERAL regress_refused(query) r;
SELECT count(*) AS broken FROM apikeys WHERE name = 'broken';

-- Such text that is there already keeps nobody from changing, or ending, a key.
SELECT apikey_create('old') AS old \gset
RESET ROLE;
UPDATE apikey_key SET description = crypt('x', 'aé'), subject = crypt('x', 'aé'), metadata = jsonb_build_object('a', crypt('x', 'aé'))
	WHERE name = 'old';
SET ROLE regress_apikey_olga;
UPDATE apikeys SET scopes = '{x}' WHERE name = 'old' RETURNING scopes;
SELECT apikey_disable(apikey_id(:'old'));
SELECT apikey_revoke(apikey_id(:'old'), 'broken');
SELECT apikey_delete(apikey_id(:'old'), 'old');
RESET ROLE;
SELECT event, key_subject ~ '^a[?]' AS told FROM apikey_event WHERE key_name = 'old' AND event <> 'created' ORDER BY event;
SET ROLE regress_apikey_olga;

-- What is longer than any path is not repeated whole.
SELECT message FROM regress_refused($$SELECT apikey_project_apply(repeat('long/', 1000))$$);

SELECT apikey_delete(id, name) FROM apikeys WHERE project IS NULL;
SELECT apikey_organization_drop('shop', 'shop');
RESET ROLE;
DELETE FROM apikey_event;
DROP TABLE regress_refusals;
DROP FUNCTION regress_refused(text);
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_olga, regress_apikey_outsider;
DROP ROLE regress_apikey_anna, regress_apikey_olga, regress_apikey_outsider;
