-- Keys that another system issued, known by their hashes.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
GRANT EXECUTE ON FUNCTION apikey_import TO regress_apikey_alice;
SET ROLE regress_apikey_alice;
-- Nothing looks like a key yet.
SELECT code FROM apikey_verify('old-sha256-key') UNION ALL SELECT code FROM apikey_verify('');
SELECT apikey_import('by-sha256', 'sha256', encode(sha256('old-sha256-key'), 'hex'), scopes => '{read}') IS NOT NULL AS imported;
SELECT apikey_import('by-sha512', 'sha512', upper(encode(sha512('old-sha512-key'), 'hex')), prefix => 'old') IS NOT NULL AS imported;
SELECT apikey_import('by-md5', 'md5', md5('old md5 key, with blanks and €'), metadata => '{"from": "there"}') IS NOT NULL AS imported;
SELECT apikey_import('by-crypt', 'crypt', crypt('sk_live_1234567890abcdef', gen_salt('bf', 4)), 'sk_live_1234') IS NOT NULL AS imported;
-- Only crypt needs a lookup; with others it is not kept.
SELECT apikey_import('by-hash', 'md5', md5('sk_live_123 by its hash'), 'sk_live_1234') IS NOT NULL AS imported;
SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'by-hash';
-- What others call 2b and 2y.
SELECT apikey_import('by-2y', 'crypt', '$2y$' || substr(crypt('sk_live_2y-567890abcdef', gen_salt('bf', 5)), 5), 'sk_live_2y-') IS NOT NULL AS imported;
SELECT name, masked_key, status, scopes, metadata FROM apikeys ORDER BY name;
SELECT event, key_name, detail FROM apikey_events ORDER BY id;

-- They verify like any other, in a transaction that only reads too.
CREATE FUNCTION pg_temp.ask() RETURNS TABLE (asked text, code text, name text, scopes text[]) LANGUAGE sql AS $$
	SELECT asked, v.code, v.name, v.scopes FROM unnest('{old-sha256-key,old-sha512-key,"old md5 key, with blanks and €",
		sk_live_1234567890abcdef,sk_live_2y-567890abcdef}'::text[]) asked, apikey_verify(asked) v $$;
BEGIN READ ONLY;
SELECT * FROM pg_temp.ask();
SELECT apikey_check('old-sha256-key', '{read}'), apikey_check('old-sha256-key', '{write}');
COMMIT;
RESET ROLE;
SELECT count(*), count(digest) AS native FROM apikey_import;
SET ROLE regress_apikey_alice;
-- What is not theirs is nobody's.
SELECT asked, v.code, v.key_id FROM unnest('{old-sha256-ke,old-sha256-key2,OLD-SHA256-KEY,sk_live_1234,sk_live_1234567890abcdeg,sk_live_,sk,sk_live_3}'::text[]) asked, apikey_verify(asked) v;
SELECT code FROM apikey_verify(encode(sha256('old-sha256-key'), 'hex')) UNION ALL SELECT code FROM apikey_verify(repeat('x', 513))
	UNION ALL SELECT code FROM apikey_verify(NULL) UNION ALL SELECT code FROM apikey_verify('');
-- The first success gives them the digest of native keys, and their masked form.
SELECT * FROM pg_temp.ask();
SELECT name, masked_key FROM apikeys ORDER BY name;
SELECT event, key_name FROM apikey_events WHERE event = 'rehashed' ORDER BY id;
RESET ROLE;
SELECT name, algorithm, digest = hmac(digest(text, 'sha256'), '', 'sha256') AS native, foreign_digest <> digest AS another, pepper
	FROM apikey_import JOIN apikey_key k USING (id) JOIN (VALUES ('by-sha256', 'old-sha256-key'), ('by-sha512', 'old-sha512-key'),
		('by-md5', 'old md5 key, with blanks and €'), ('by-crypt', 'sk_live_1234567890abcdef'), ('by-2y', 'sk_live_2y-567890abcdef')) AS t (name, text)
	USING (name) ORDER BY name;
SET ROLE regress_apikey_alice;
SELECT * FROM pg_temp.ask();
SELECT count(*) FROM apikey_events WHERE event = 'rehashed';
SELECT code FROM apikey_verify('sk_live_1234567890abcdeg');

-- A key's shape and right checksum are a native key's, never looked up here;
-- with a wrong one it may be anything.
SELECT apikey_import('looks-native', 'md5', md5('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk')) IS NOT NULL AS imported;
SELECT apikey_import('looks-nearly', 'md5', md5('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQl')) IS NOT NULL AS imported;
SELECT code, name FROM apikey_verify('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
SELECT code, name FROM apikey_verify('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQl');

-- fail: a hash that a live key has, by whatever of its digests
\set VERBOSITY terse
SELECT apikey_import('again', 'sha256', encode(sha256('old-sha256-key'), 'hex'));
SELECT apikey_import('again', 'md5', md5('old md5 key, with blanks and €'));
SELECT apikey_import('again', 'sha256', encode(sha256('old-sha512-key'), 'hex'));
-- fail: a lookup that begins another, or is begun by it
SELECT apikey_import('again', 'crypt', crypt('x', gen_salt('bf', 4)), 'sk_live_1234');
SELECT apikey_import('again', 'crypt', crypt('x', gen_salt('bf', 4)), 'sk_live_12345');
SELECT apikey_import('again', 'crypt', crypt('x', gen_salt('bf', 4)), 'sk_live_');
SELECT apikey_import('by-md5', 'md5', md5('name taken'));
-- fail: bad values
\set VERBOSITY default
SELECT apikey_import(NULL, 'md5', md5('x'));
SELECT apikey_import('bad', NULL, md5('x'));
SELECT apikey_import('bad', 'md5', NULL);
SELECT apikey_import('bad', 'sha1', md5('x'));
SELECT apikey_import('bad', 'MD5', md5('x'));
SELECT apikey_import('bad', 'md5', left(md5('x'), -1));
SELECT apikey_import('bad', 'md5', left(md5('x'), -1) || 'g');
SELECT apikey_import('bad', 'sha256', md5('x'));
SELECT apikey_import('bad', 'sha512', encode(sha256('x'), 'hex'));
SELECT apikey_import('bad', 'md5', md5('x'), 'short');
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('bf', 4)));
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('bf', 4)), '1234567');
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('bf', 4)), repeat('x', 101));
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('bf', 4)) || 'x', '12345678');
SELECT apikey_import('bad', 'crypt', overlay(crypt('x', gen_salt('bf', 4)) PLACING '03' FROM 5), '12345678');
SELECT apikey_import('bad', 'crypt', overlay(crypt('x', gen_salt('bf', 4)) PLACING '13' FROM 5), '12345678');
SELECT apikey_import('bad', 'crypt', overlay(crypt('x', gen_salt('bf', 4)) PLACING '!' FROM 40), '12345678');
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('md5')), '12345678');
-- and those of apikey_create
SELECT apikey_import('no good', 'md5', md5('x'));
SELECT apikey_import('bad', 'md5', md5('x'), scopes => '{a*}');
SELECT apikey_import('bad', 'md5', md5('x'), project => 'acme/none');
SELECT apikey_import('bad', 'md5', md5('x'), role => 'admin');
BEGIN READ ONLY;
SELECT apikey_import('bad', 'md5', md5('x'));
ROLLBACK;
SET ROLE regress_apikey_bob;
SELECT apikey_import('bad', 'md5', md5('x'));
SET ROLE regress_apikey_alice;

-- They are managed like any other, and a successor is a native key.
SELECT apikey_disable(id) FROM apikeys WHERE name = 'by-md5';
SELECT code FROM apikey_verify('old md5 key, with blanks and €');
SELECT left(apikey_rotate(id, '1 hour'), 4) AS successor FROM apikeys WHERE name = 'by-sha512';
SELECT code, name, detail ? 'rotated_to' AS rotated FROM apikey_verify('old-sha512-key');
SELECT apikey_self_revoke('old-sha256-key', 'found'), apikey_self_revoke('old-sha256-key'), apikey_self_revoke('nobody''s');
SELECT code FROM apikey_verify('old-sha256-key');
-- A live key's hash is its own; a revoked one's may be imported again.
SELECT apikey_import('again', 'sha256', encode(sha256('old-sha256-key'), 'hex')) IS NOT NULL AS imported;
SELECT code, name FROM apikey_verify('old-sha256-key');
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'by-crypt';
SELECT code, name FROM apikey_verify('sk_live_1234567890abcdef');
SELECT apikey_import('longer', 'crypt', crypt('sk_live_12345-and-so-on', gen_salt('bf', 4)), 'sk_live_12345') IS NOT NULL AS imported;
SELECT code, name FROM apikey_verify('sk_live_12345-and-so-on') UNION ALL SELECT code, name FROM apikey_verify('sk_live_1234567890abcdef');
SELECT apikey_delete(id, name) FROM apikeys WHERE name IN ('again', 'longer');
SELECT code FROM apikey_verify('old-sha256-key') UNION ALL SELECT code FROM apikey_verify('sk_live_12345-and-so-on');

-- What a transaction imports it verifies at once, and what is rolled back never was.
BEGIN;
SELECT apikey_import('passing', 'md5', md5('passing')) IS NOT NULL AS imported;
SELECT code FROM apikey_verify('passing');
SAVEPOINT s;
SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'passing';
SELECT code FROM apikey_verify('passing');
ROLLBACK TO s;
SELECT code FROM apikey_verify('passing');
ROLLBACK;
SELECT code FROM apikey_verify('passing');

-- In bulk, and each found by an index.
SELECT count(apikey_import('bulk-' || i, 'sha256', encode(sha256(('bulk ' || i)::bytea), 'hex'))) FROM generate_series(1, 2000) i;
RESET ROLE;
SELECT pg_stat_force_next_flush();
SELECT seq_scan AS scans FROM pg_stat_user_tables WHERE relname = 'apikey_import' \gset
SELECT count(*) FILTER (WHERE code = 'valid' AND name = 'bulk-' || i) FROM generate_series(1, 2000) i,
	apikey_verify('bulk ' || i, cost => 0, owner => 'regress_apikey_alice');
SELECT code FROM apikey_verify('bulk 0') UNION ALL SELECT code FROM apikey_verify('sk_live_2y-');
SELECT pg_stat_force_next_flush();
SELECT seq_scan - :scans AS scans FROM pg_stat_user_tables WHERE relname = 'apikey_import';
SET ROLE regress_apikey_alice;
SELECT count(*) FILTER (WHERE code = 'valid' AND name = 'bulk-' || i) FROM generate_series(1, 2000) i, apikey_verify('bulk ' || i);

-- Two keys of one text, by hashes that do not tell: the first to be verified has it.
SELECT apikey_import('twin-md5', 'md5', md5('twins')) IS NOT NULL AND apikey_import('twin-sha', 'sha256', encode(sha256('twins'), 'hex')) IS NOT NULL AS imported;
SELECT code, name FROM apikey_verify('twins') UNION ALL SELECT code, name FROM apikey_verify('twins');

-- In a project, as there.
RESET ROLE;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme/pay', 'regress_apikey_alice', 'admin');
UPDATE apikey_projects SET max_keys = 1 WHERE path = 'acme/pay';
SET ROLE regress_apikey_alice;
SELECT apikey_import('in-project', 'md5', md5('in a project'), project => 'acme/pay', role => 'developer') IS NOT NULL AS imported;
SELECT code, project, role FROM apikey_verify('in a project', project => 'acme/pay');
SELECT code, project, role FROM apikey_verify('in a project', project => 'acme/other');
-- fail
SELECT apikey_import('one-more', 'md5', md5('one more'), project => 'acme/pay');
RESET ROLE;
SELECT apikey_organization_drop('acme', 'acme');
SELECT code FROM apikey_verify('in a project', project => 'acme/pay');

-- Nobody reads the rows, and no hash as imported is in them.
SET ROLE regress_apikey_alice;
\set VERBOSITY sqlstate
SELECT FROM apikey_import;
\set VERBOSITY default
RESET ROLE;
SELECT count(*) FROM apikey_import i WHERE to_jsonb(i)::text ~ md5('old md5 key, with blanks and €') OR to_jsonb(i)::text ~ encode(sha256('bulk 1'), 'hex');
DROP FUNCTION pg_temp.ask;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_import;
DELETE FROM apikey_usage;
DELETE FROM apikey_event;
SELECT code FROM apikey_verify('bulk 1');
REVOKE EXECUTE ON FUNCTION apikey_import FROM regress_apikey_alice;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
