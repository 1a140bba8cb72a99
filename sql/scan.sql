-- Keys and tokens in any text: those that the caller may see, and what they are
-- good for.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
\set pepper `umask 077; file=$(mktemp /tmp/apikey_regress_XXXXXX); printf 'a pepper of the regression tests, of 32 bytes at least\n' >"$file"; echo "$file"`
SET apikey.pepper_file = :'pepper';
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme/pay', 'regress_apikey_alice', 'admin');
SET ROLE regress_apikey_alice;
SELECT apikey_create('one') AS one, apikey_create('two', prefix => 'sk_live') AS two,
	apikey_create('of-project', 'acme/pay') AS project \gset
SELECT apikey_token_create(:'one') AS token, apikey_token_create(:'two', scopes => '{}') AS token_two \gset
SELECT apikey_create('hidden') AS unseen \gset
RESET ROLE;
SET ROLE regress_apikey_bob;
SELECT apikey_create('bobs') AS bobs \gset
RESET ROLE;
SET ROLE regress_apikey_alice;

-- The name of a key in place of what differs from run to run.
CREATE FUNCTION pg_temp.scan(content text) RETURNS TABLE (name text, masked text, code text, at integer)
LANGUAGE sql AS $$
	SELECT k.name, regexp_replace(s.masked_key, '....$', '****'), s.code, s.at
		FROM apikey_scan(content) WITH ORDINALITY s LEFT JOIN apikeys k ON k.id = s.key_id ORDER BY ordinality
$$;
SELECT * FROM pg_temp.scan('');
SELECT * FROM apikey_scan(NULL);
SELECT * FROM pg_temp.scan('nothing here, ak_ or ak_t_, or ' || repeat('_t_', 100));
SELECT * FROM pg_temp.scan(:'one');
SELECT * FROM pg_temp.scan(:'token');
SELECT * FROM pg_temp.scan(format('key=%s, "%s"; TOKEN=%s/%s', :'one', :'two', :'token', :'token_two'));
SELECT * FROM pg_temp.scan(format('älter €%s 𐍈é%s', :'one', :'token'));
-- Within longer words, and one after the other.
SELECT * FROM pg_temp.scan('KEY' || :'one' || 'x' || :'two' || :'one' || :'token' || :'token' || 'ZZ' || :'token_two' || '-_');
SELECT masked_key = left(:'one', 3) || '...' || right(:'one', 4) AS key, masked_key = left(:'token', 5) || '...' || right(:'token', 4) AS token
	FROM apikey_scan(:'one' || ' ' || :'token');
-- As the view masks it.
SELECT count(*) FROM apikey_scan(:'one' || ' ' || :'two' || ' ' || :'project') JOIN apikeys k USING (masked_key) WHERE k.id = key_id;
-- What is cut, altered or somebody else's is left out.
SELECT * FROM pg_temp.scan(left(:'one', -1) || ' ' || left(:'token', -1) || ' ' || overlay(:'one' placing CASE substr(:'one', 40, 1) WHEN '0' THEN '1' ELSE '0' END from 40) || ' ' || :'bobs');
SELECT count(*) FROM generate_series(1, length(:'token')) i,
	apikey_scan(overlay(:'token' placing CASE substr(:'token', i, 1) WHEN 'b' THEN 'c' ELSE 'b' END from i for 1));
-- A secret that does not match, with a right checksum.
SELECT count(*) FROM apikey_scan('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');

-- What verification would say of each by whoever it is named for; nothing is
-- spent or counted.
SELECT apikey_create('spent', credits => 1) AS spent, apikey_create('none-left', credits => 1) AS none_left,
	apikey_create('bound', allowed_ips => '{10.0.0.0/8}') AS bound, apikey_create('ended', expires_at => clock_timestamp() + '0.2 seconds') AS ended,
	apikey_create('later', starts_at => now() + '1 hour') AS later, apikey_create('off') AS off, apikey_create('gone') AS gone \gset
SELECT apikey_disable(apikey_id(:'off')), apikey_revoke(apikey_id(:'gone'));
SELECT code FROM apikey_verify(:'none_left');
SELECT apikey_token_create(:'one', '1 second') AS short \gset
SELECT pg_sleep(1.1);
SELECT * FROM pg_temp.scan(concat_ws(' ', :'one', :'project', :'spent', :'none_left', :'bound', :'ended', :'later', :'off', :'gone', :'short'));
SELECT * FROM pg_temp.scan(:'spent');
SELECT credits FROM apikeys WHERE name = 'spent';
SELECT sum(use_count), sum(denied_count) FROM apikeys;
-- Read only, and by others.
BEGIN READ ONLY;
SELECT * FROM pg_temp.scan(:'one');
ROLLBACK;
RESET ROLE;
SELECT k.name, s.code FROM apikey_scan(:'one' || ' ' || :'bobs' || ' ' || :'project') s JOIN apikey_key k ON k.id = s.key_id ORDER BY at;
SET ROLE regress_apikey_bob;
SELECT count(*) FROM apikey_scan(:'one' || ' ' || :'bobs' || ' ' || :'project');
RESET ROLE;

-- Without the pepper it is not known, and said so; a text without keys is one.
SET apikey.pepper_file = '/nonexistent';
SELECT * FROM apikey_scan('nothing');
SELECT * FROM apikey_scan(:'one');
SET apikey.pepper_file = :'pepper';

-- Across the ends of what is looked at in one go, wherever it stands.
SET ROLE regress_apikey_alice;
SELECT count(*), min(code), bool_and(s.at = 1048576 - i + 1) AS there
	FROM generate_series(0, 130, 3) i, apikey_scan(repeat('.', 1048576 - i) || :'token' || ' x') s;
SELECT count(*), bool_and(s.at = 1048576 - i + 1) AS there
	FROM generate_series(0, 70, 3) i, apikey_scan(repeat('x', 1048575 - i) || '.' || :'one') s;
-- 100 MB in seconds, whatever is in them.
SET statement_timeout = '60s';
SELECT count(*), max(at) FROM apikey_scan(repeat(repeat('x', 99) || E'\n', 1000000) || :'one');
SELECT count(*), max(at) FROM apikey_scan(repeat('_t_AQ', 10000000) || ' ' || :'one');
SELECT count(*), max(at) FROM apikey_scan(repeat(left(:'token', 47), 500000) || ' ' || :'one');
SELECT count(*), max(at) FROM apikey_scan(repeat(left(:'one', -2), 500000) || ' ' || :'one');
RESET statement_timeout;
RESET ROLE;

RESET apikey.pepper_file;
\setenv PEPPER :pepper
\! rm "$PEPPER"
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_usage;
DELETE FROM apikey_credit;
DELETE FROM apikey_event;
DELETE FROM apikey_revocation;
DROP FUNCTION pg_temp.scan(text);
DROP ROLE regress_apikey_alice, regress_apikey_bob;
