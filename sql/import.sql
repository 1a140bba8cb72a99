-- Keys that another system issued, known by their hashes.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
GRANT EXECUTE ON FUNCTION apikey_import TO regress_apikey_alice;
CREATE FUNCTION regress_try_import(hash text) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
BEGIN
	RETURN NEXT apikey_import('tried', 'sha256', hash);
EXCEPTION WHEN invalid_parameter_value THEN
END $$;
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
-- What is replaced is not given away before its grace is over.
SELECT apikey_import('in-grace', 'crypt', '$2a$04$abcdefghijklmnopqrstuuZbDM4s8hNsKrOb0Gm/rz7m4TUXXmJdG', 'grace_lookup') AS in_grace \gset
SELECT apikey_rotate(:'in_grace', '1 hour') IS NOT NULL AS rotated;
\set VERBOSITY sqlstate
SELECT apikey_import('in-its-place', 'crypt', '$2a$04$abcdefghijklmnopqrstuuZbDM4s8hNsKrOb0Gm/rz7m4TUXXmJdG', 'grace_lookup');
\set VERBOSITY default
SELECT apikey_revoke(:'in_grace');
SELECT apikey_import('in-its-place', 'crypt', '$2a$04$abcdefghijklmnopqrstuuZbDM4s8hNsKrOb0Gm/rz7m4TUXXmJdG', 'grace_lookup') IS NOT NULL AS imported;
SELECT count(apikey_revoke(id)) AS ended FROM apikeys WHERE name IN ('in-its-place', 'in-grace');
-- Nor is one that has not started, or is disabled.
SELECT apikey_import('before-start', 'sha256', encode(sha256('before-start'), 'hex'), starts_at => now() + '1 hour') AS before_start,
	apikey_import('off', 'sha256', encode(sha256('off'), 'hex')) AS off,
	apikey_import('off-and-over', 'sha256', encode(sha256('off-and-over'), 'hex')) AS off_and_over \gset
SELECT count(apikey_rotate(id, CASE name WHEN 'off-and-over' THEN interval '100 ms' ELSE '1 day' END)) AS rotated
	FROM apikeys WHERE id IN (:'before_start', :'off', :'off_and_over');
SELECT apikey_disable(:'off'), apikey_disable(:'off_and_over');
SELECT name, status FROM apikeys WHERE id IN (:'before_start', :'off') ORDER BY name;
\set VERBOSITY sqlstate
SELECT apikey_import('stolen', 'sha256', encode(sha256('before-start'), 'hex'));
SELECT apikey_import('stolen-too', 'sha256', encode(sha256('off'), 'hex'));
\set VERBOSITY default
-- What is over makes room, disabled or not.
SELECT pg_sleep(0.2);
SELECT apikey_import('after-it', 'sha256', encode(sha256('off-and-over'), 'hex')) IS NOT NULL AS imported;
SELECT count(apikey_revoke(id)) AS ended FROM apikeys WHERE name IN ('before-start', 'off', 'off-and-over', 'after-it');
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

-- bcrypt reads 72 bytes: a longer text has no hash of its own, and a lookup leaves 16 of them secret.
SELECT apikey_import('cut', 'crypt', crypt('sk_cut_1' || repeat('x', 64), gen_salt('bf', 4)), 'sk_cut_1') IS NOT NULL AS imported;
SELECT code FROM apikey_verify('sk_cut_1' || repeat('x', 65)) UNION ALL SELECT code FROM apikey_verify('sk_cut_1' || repeat('x', 64) || 'and more')
	UNION ALL SELECT code FROM apikey_verify('sk_cut_1' || repeat('x', 63));
SELECT code, name FROM apikey_verify('sk_cut_1' || repeat('x', 64));
SELECT code FROM apikey_verify('sk_cut_1' || repeat('x', 65));
SELECT apikey_import('bad', 'crypt', crypt('x', gen_salt('bf', 4)), repeat('y', 57));
SELECT apikey_import('least', 'crypt', crypt(repeat('y', 72), gen_salt('bf', 4)), repeat('y', 56)) IS NOT NULL AS imported;
-- 2x lets a character beyond ASCII cover those before it: only ASCII texts have a hash there.
SELECT apikey_import('by-2x', 'crypt', crypt('sk_2x_12€', '$2x$04$......................'), 'sk_2x_12') IS NOT NULL AS imported;
SELECT code FROM apikey_verify('sk_2x_12€');

-- PBKDF2 as Django writes it; made by Python's hashlib.pbkdf2_hmac.
SELECT apikey_import('by-pbkdf2', 'pbkdf2-sha256', 'pbkdf2_sha256$1000$3jXQ8bKmWq1LTcvAzTzSVu$H9sIMqC2KQjqRgWdTp+SAfzV+OSWmI1zPa6bWnCd4r4=', 'prefix12.') IS NOT NULL AS imported;
SELECT apikey_import('by-pbkdf2-long', 'pbkdf2-sha256', 'pbkdf2_sha256$1$seasalt$nEmqUUWBPYQuDNIJmWQPAoBoC3iF5SF52tGAxq4q840=', 'sk_pbk2_') IS NOT NULL AS imported;
SELECT code FROM apikey_verify('prefix12.dGhlIHNlY3JldCBvZiBhIGtleR') UNION ALL SELECT code FROM apikey_verify('prefix12.')
	UNION ALL SELECT code FROM apikey_verify('sk_pbk2_' || repeat('x', 89)) UNION ALL SELECT code FROM apikey_verify('sk_pbk2_' || repeat('x', 91));
SELECT code, name FROM apikey_verify('prefix12.dGhlIHNlY3JldCBvZiBhIGtleQ') UNION ALL SELECT code, name FROM apikey_verify('sk_pbk2_' || repeat('x', 90));
SELECT code, name FROM apikey_verify('prefix12.dGhlIHNlY3JldCBvZiBhIGtleQ');
-- fail: other forms, too many rounds, no lookup, one that clashes with that of crypt
DO $do$
DECLARE
	hash text;
BEGIN
	FOREACH hash IN ARRAY ARRAY['pbkdf2_sha256$1500001$salt$', 'pbkdf2_sha256$0$salt$', 'pbkdf2_sha256$01$salt$', 'pbkdf2_sha256$-1$salt$',
			'pbkdf2_sha256$1$$', 'pbkdf2_sha256$1$' || repeat('s', 129) || '$', 'pbkdf2_sha1$1$salt$', 'pbkdf2_sha256$99999999999999999999$salt$',
			'pbkdf2_sha256$1 $salt$', '$pbkdf2-sha256$1$salt$', 'pbkdf2_sha256$1$salt', 'pbkdf2_sha256$'] LOOP
		BEGIN
			PERFORM apikey_import('bad', 'pbkdf2-sha256', hash || encode(sha256('x'), 'base64'), 'a lookup');
			RAISE WARNING 'accepted: %', hash;
		EXCEPTION WHEN invalid_parameter_value THEN
		END;
	END LOOP;
END $do$;
\set VERBOSITY terse
SELECT apikey_import('bad', 'pbkdf2-sha256', 'pbkdf2_sha256$1$salt$' || encode(sha256('x'), 'base64'));
SELECT apikey_import('bad', 'pbkdf2-sha256', 'pbkdf2_sha256$1$salt$' || encode(sha256('x'), 'base64'), 'sk_cut_12');
\set VERBOSITY default

-- What is behind a separator: Sanctum's "id|token", Seam's "prefix_short_long".
SELECT apikey_import('sanctum', 'sha256-part', encode(sha256('PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f9'), 'hex')) IS NOT NULL AS imported;
SELECT apikey_import('sanctum-7', 'sha256-part', encode(sha256('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN9c2e11d7'), 'hex'), '7|') IS NOT NULL AS imported;
SELECT apikey_import('seam', 'sha256-part', encode(sha256('51FwqftsmMDHHbJAMEXXHCgG'), 'hex'), 'mycompany_BRTRKFsL_') IS NOT NULL AS imported;
SELECT asked, v.code, v.name FROM unnest('{1|PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f9,2|PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f9,1|PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f9,
	PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f9,1|PU6bHMJRqtJZ7nA4d0Y2fXkPl1N3vGxsQhU9aKEi3d2c41f8,
	7|abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN9c2e11d7,8|abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN9c2e11d7,7|abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN9c2e11d7,
	mycompany_BRTRKFsM_51FwqftsmMDHHbJAMEXXHCgG,mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG,other_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG,mycompany_BRTRKFsL_}'::text[]) AS asked, apikey_verify(asked) AS v;
-- What is before it is part of a key only where it was given, and only then the text becomes the key's.
RESET ROLE;
SELECT name, digest IS NOT NULL AS native FROM apikey_import JOIN apikey_key USING (id) WHERE algorithm = 'sha256-part' ORDER BY name;
SET ROLE regress_apikey_alice;
-- fail: no separator at the end
SELECT apikey_import('bad', 'sha256-part', encode(sha256('x'), 'hex'), 'mycompany');

-- By the hash of a part alone a key is found last: who has imported it need not know the other text.
SELECT count(apikey_import('whole-' || algorithm, algorithm, hash, lookup)) FROM (VALUES
	('sha256', encode(sha256('sk_of_a_whole_v1'), 'hex'), NULL),
	('crypt', crypt('sk_of_a_slow_v1', gen_salt('bf', 4)), 'sk_of_a_slow')) AS imported (algorithm, hash, lookup);
SELECT apikey_import('any', 'sha256-part', encode(sha256('v1'), 'hex')) IS NOT NULL AS imported;
SELECT asked, v.code, v.name FROM unnest('{sk_of_a_whole_v1,sk_of_a_slow_v1,sk_of_none_v1}'::text[]) AS asked, apikey_verify(asked) AS v;

-- Hashes in base64 and base64url, padded or not.
SELECT count(apikey_import('form-' || form, 'sha256', CASE form WHEN 1 THEN h WHEN 2 THEN rtrim(h, '=') WHEN 3 THEN translate(h, '+/', '-_') ELSE rtrim(translate(h, '+/', '-_'), '=') END))
	FROM generate_series(1, 4) form, encode(sha256(('in form ' || form)::bytea), 'base64') h;
SELECT apikey_import('form-md5', 'md5', encode(decode(md5('in md5'), 'hex'), 'base64')) IS NOT NULL AS imported,
	apikey_import('form-sha512', 'sha512', rtrim(translate(replace(encode(sha512('in sha512'), 'base64'), E'\n', ''), '+/', '-_'), '=')) IS NOT NULL AS imported;
SELECT asked, v.code, v.name FROM unnest('{in form 1,in form 2,in form 3,in form 4,in md5,in sha512}'::text[]) asked, apikey_verify(asked) v;
-- fail: mixed, cut, with bits behind the end, with blanks
SELECT what, (SELECT count(*) FROM regress_try_import(h)) AS imported FROM (VALUES ('mixed', repeat('A', 41) || '+_'), ('cut', repeat('A', 42)),
	('bits', repeat('A', 42) || 'B'), ('blank', repeat('A', 42) || ' '), ('padded twice', repeat('A', 42) || '=='), ('hex and more', repeat('0', 65))) AS v (what, h);

-- HMAC under a secret that this server does not have.
SELECT apikey_import('bad', 'hmac-sha256', encode(hmac('x', 'secret', 'sha256'), 'hex'));

-- A key of this extension, from another database: with its id, by its handle.
SELECT apikey_create('elsewhere') AS elsewhere \gset
SELECT apikey_import('moved', 'sha256', encode(sha256(:'elsewhere'), 'hex'), left(:'elsewhere', -39));
SELECT apikey_delete(id, name) FROM apikeys WHERE id = apikey_id(:'elsewhere');
SELECT apikey_import('moved', 'sha256', encode(sha256(:'elsewhere'), 'base64'), left(:'elsewhere', -39)) = apikey_id(:'elsewhere') AS with_its_id;
SELECT code, name FROM apikey_verify(:'elsewhere');
SELECT code FROM apikey_verify(overlay(:'elsewhere' PLACING CASE substr(:'elsewhere', 30, 1) WHEN 'x' THEN 'y' ELSE 'x' END FROM 30));
-- fail: by another hash, another prefix, or as a whole
SELECT apikey_import('bad', 'md5', md5(:'elsewhere'), left(:'elsewhere', -39));
SELECT apikey_import('bad', 'sha256', encode(sha256(:'elsewhere'), 'hex'), left(:'elsewhere', -39), prefix => 'other');
SELECT apikey_import('bad', 'sha256', encode(sha256(:'elsewhere'), 'hex'), :'elsewhere');
SELECT apikey_import('bad', 'sha256', :'elsewhere');
-- fail: an id that no key is given
SELECT apikey_import('bad', 'sha256', encode(sha256('x'), 'hex'), 'ak_' || repeat('0', 22));
-- fail: that of a key that is gone, under which its successor keeps what they have spent
SELECT apikey_create('first', credits => 5) AS first \gset
SELECT apikey_rotate(apikey_id(:'first')) AS second \gset
SELECT apikey_delete(apikey_id(:'first'), 'first');
SELECT apikey_import('again-first', 'sha256', encode(sha256(:'first'), 'hex'), left(:'first', -39));
UPDATE apikeys SET credits = NULL WHERE id = apikey_id(:'second');
SELECT apikey_import('again-first', 'sha256', encode(sha256(:'first'), 'hex'), left(:'first', -39));
SELECT apikey_delete(apikey_id(:'second'), 'first');
SELECT apikey_import('again-first', 'sha256', encode(sha256(:'first'), 'hex'), left(:'first', -39)) = apikey_id(:'first') AS with_its_id;
SELECT apikey_delete(apikey_id(:'first'), 'again-first');
-- fail: one of which events tell that do not say whose it was, as those of 0.1.0
SELECT apikey_create('told-of') AS told_of \gset
SELECT apikey_delete(apikey_id(:'told_of'), 'told-of');
RESET ROLE;
INSERT INTO apikey_event (at, event, key_id, key_name, actor) VALUES (now(), 'created', apikey_id(:'told_of'), 'somebody''s', 'somebody');
SET ROLE regress_apikey_alice;
SELECT apikey_import('told-of', 'sha256', encode(sha256(:'told_of'), 'hex'), left(:'told_of', -39));
-- What is left of a key that is gone proves none that gets its id.
SELECT apikey_import('gone', 'sha256', encode(sha256('gone'), 'hex')) AS gone \gset
RESET ROLE;
CREATE TEMPORARY TABLE gone AS SELECT * FROM apikey_import WHERE id = :'gone';
SET ROLE regress_apikey_alice;
SELECT apikey_delete(:'gone', 'gone');
RESET ROLE;
UPDATE gone SET id = apikey_id(:'first');
INSERT INTO apikey_import SELECT * FROM gone;
DROP TABLE gone;
INSERT INTO apikey_credit (id, balance, granted_at) VALUES (apikey_id(:'first'), 1000, now());
SET ROLE regress_apikey_alice;
SELECT apikey_import('again-first', 'sha256', encode(sha256(:'first'), 'hex'), left(:'first', -39), credits => 5) = apikey_id(:'first') AS with_its_id;
SELECT code FROM apikey_verify('gone') UNION ALL SELECT code FROM apikey_verify(:'first');
SELECT credits FROM apikeys WHERE name = 'again-first';
RESET ROLE;
SELECT substr(credits_account::text, 15, 1) AS version FROM apikey_key WHERE id = apikey_id(:'first');
DROP FUNCTION regress_try_import;

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
DELETE FROM apikey_credit;
DELETE FROM apikey_event;
SELECT code FROM apikey_verify('bulk 1');
REVOKE EXECUTE ON FUNCTION apikey_import FROM regress_apikey_alice;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
