CREATE ROLE regress_apikey_alice;
SET ROLE regress_apikey_alice;

-- Every attribute, and what it defaults to.
SELECT apikey_create('plain') AS plain,
	   apikey_create('full', description => 'for the tests', subject => 'user-1',
		scopes => '{read,write:*}', starts_at => '2020-01-01', expires_at => '2100-01-01',
		prefix => 'acme_live', allowed_ips => '{10.0.0.0/8,2001:db8::/32}',
		metadata => '{"plan": "pro"}') AS full \gset
SELECT name, left(masked_key, -4) AS masked, description, status, project, owner, subject, role, scopes,
	   starts_at IS NULL AS no_start, expires_at > now() AS expires, allowed_ips, metadata
	FROM apikeys ORDER BY name;
SELECT name, created_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS just_now
	FROM apikeys ORDER BY name;
SET apikey.prefix = 'test';
SELECT left(apikey_create('prefixed'), 5);
-- fail: not a prefix
SET apikey.prefix = 'Test';
SET apikey.prefix = '';
RESET apikey.prefix;

-- fail: each names its argument
SELECT apikey_create(NULL);
SELECT apikey_create('x');
SELECT apikey_create('plain');
SELECT apikey_create('bad', prefix => 'Bad');
SELECT apikey_create('bad', prefix => '');
SELECT apikey_create('bad', prefix => 'a12345678901234567890');
SELECT apikey_create('bad', prefix => 'tail_ak!');
SELECT apikey_create('bad', role => 'owner');
SELECT apikey_create('bad', accept_terms => 'v1');
SELECT apikey_create('bad', project => 'acme/payments');
SELECT apikey_create('bad', subject => '');
SELECT apikey_create('bad', subject => E'a\tb');
SELECT apikey_create('bad', subject => repeat('x', 256));
SELECT apikey_create('bad', description => repeat('x', 1001));
SELECT apikey_create('bad', scopes => NULL);
SELECT apikey_create('bad', scopes => '{a,NULL}');
SELECT apikey_create('bad', scopes => '{{a},{b}}');
SELECT apikey_create('bad', scopes => '{""}');
SELECT apikey_create('bad', scopes => '{"a b"}');
SELECT apikey_create('bad', scopes => ARRAY[E'a\u200Bb']);
SELECT apikey_create('bad', scopes => ARRAY[repeat('x', 201)]);
SELECT apikey_create('bad', scopes => '{a*}');
SELECT apikey_create('bad', scopes => '{*:a}');
SELECT apikey_create('bad', scopes => '{a:**}');
SELECT apikey_create('bad', scopes => array_agg('s' || i)) FROM generate_series(1, 1001) i;
SELECT apikey_create('bad', starts_at => '2030-01-02', expires_at => '2030-01-01');
SELECT apikey_create('bad', starts_at => '2030-01-01', expires_at => '2030-01-01');
SELECT apikey_create('bad', allowed_ips => '{}');
SELECT apikey_create('bad', allowed_ips => '{10.0.0.0/8,NULL}');
SELECT apikey_create('bad', metadata => NULL);
SELECT apikey_create('bad', metadata => jsonb_build_object('x', repeat('x', 65536)));
SELECT apikey_create('bad', rate_limit => 0);
SELECT apikey_create('bad', rate_window => '1 month');
SELECT apikey_create('bad', rate_window => NULL);
-- fail: only where the library is preloaded
SELECT apikey_create('bad', rate_limit => 10);
-- and nothing of all that was stored
SELECT name FROM apikeys ORDER BY name;
-- what is still allowed
SELECT code FROM apikey_verify(apikey_create('widest', scopes => ARRAY['*', 'a:*', ':*', 'é€😀', 'a:b,c"{}', repeat('x', 200)],
	subject => repeat('é', 255), description => repeat('é', 1000), prefix => 'a1234567890123456_89'));

-- Renaming.
SELECT id AS plain_id FROM apikeys WHERE name = 'plain' \gset
SELECT apikey_rename(:'plain_id', 'renamed');
SELECT apikey_rename(:'plain_id', 'renamed');
SELECT name, code FROM apikey_verify(:'plain');
-- fail: a bad name, a taken one, none
SELECT apikey_rename(:'plain_id', 'no spaces');
SELECT apikey_rename(:'plain_id', NULL);
SELECT apikey_rename(NULL, 'renamed');
-- a name is taken within one subject
SELECT apikey_rename(:'plain_id', 'prefixed');
SELECT apikey_rename(:'plain_id', 'full');
SELECT apikey_rename(:'plain_id', 'renamed');

-- Disabling and enabling, as often as one likes.
SELECT apikey_disable(:'plain_id'), apikey_disable(:'plain_id');
SELECT status FROM apikeys WHERE name = 'renamed';
SELECT code FROM apikey_verify(:'plain');
-- fail: a disabled key keeps its name
SELECT apikey_create('renamed');
SELECT apikey_enable(:'plain_id'), apikey_enable(:'plain_id');
SELECT code FROM apikey_verify(:'plain');

-- Revoking, once.
SELECT apikey_revoke(:'plain_id', 'laptop lost'), apikey_revoke(:'plain_id', 'again');
SELECT status, revoke_reason, revoked_at <= clock_timestamp() AS now FROM apikeys WHERE name = 'renamed';
SELECT code, name, valid FROM apikey_verify(:'plain');
SELECT apikey_disable(:'plain_id');
\set VERBOSITY sqlstate
-- fail: it stays revoked
SELECT apikey_enable(:'plain_id');
SELECT apikey_rename(:'plain_id', 'other');
\set VERBOSITY default
-- fail: a bad reason
SELECT apikey_revoke(:'plain_id', repeat('x', 501));
SELECT apikey_revoke(:'plain_id', E'two\nlines');
SELECT apikey_revoke(:'plain_id', E'next\u0085line');
SELECT apikey_revoke(NULL);
-- its name is free again
SELECT code FROM apikey_verify(apikey_create('renamed'));

-- Whoever holds a key may revoke it, once.
RESET ROLE;
CREATE ROLE regress_apikey_bob;
SET ROLE regress_apikey_bob;
SELECT apikey_self_revoke(left(:'full', -1) || CASE right(:'full', 1) WHEN '0' THEN '1' ELSE '0' END), apikey_self_revoke(NULL), apikey_self_revoke('x');
SELECT apikey_self_revoke('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
SELECT apikey_self_revoke(:'full', E'bad\treason');
SELECT apikey_self_revoke(:'full', repeat('é', 500)), apikey_self_revoke(:'full');
SELECT code FROM apikey_verify(:'full');
SET ROLE regress_apikey_alice;
SELECT name, status, revoke_reason = repeat('é', 500) AS reason FROM apikeys WHERE name = 'full';

-- Deleting asks for the name.
SELECT apikey_create('short-lived') AS short \gset
SELECT apikey_id(:'short') AS short_id \gset
SELECT apikey_delete(:'short_id', 'wrong');
SELECT apikey_delete(:'short_id', NULL);
SELECT apikey_delete(NULL, 'short-lived');
SELECT code FROM apikey_verify(:'short');
SELECT apikey_delete(:'short_id', 'short-lived');
SELECT code, key_id FROM apikey_verify(:'short');
RESET ROLE;
SELECT count(*) FROM apikey_digest WHERE id = :'short_id';
SET ROLE regress_apikey_alice;
-- fail: the same for what is gone and what never was
SELECT apikey_delete('00000000-0000-0000-0000-000000000000', 'short-lived');
SELECT apikey_revoke('00000000-0000-0000-0000-000000000000');
SELECT apikey_disable('00000000-0000-0000-0000-000000000000');
SELECT apikey_enable('00000000-0000-0000-0000-000000000000');
SELECT apikey_rename('00000000-0000-0000-0000-000000000000', 'name');

-- fail: nothing is written in a read-only transaction
BEGIN READ ONLY;
SELECT apikey_create('late');
ROLLBACK;
BEGIN READ ONLY;
SELECT apikey_self_revoke('x');
ROLLBACK;
-- what is rolled back was never there
BEGIN;
SELECT apikey_create('rolled-back') AS back \gset
SELECT code FROM apikey_verify(:'back');
SAVEPOINT s;
SELECT apikey_revoke(apikey_id(:'back'));
SELECT code FROM apikey_verify(:'back');
ROLLBACK TO s;
SELECT code FROM apikey_verify(:'back');
ROLLBACK;
SELECT code FROM apikey_verify(:'back');

-- a name is free for a key that is handed on where the one that has it is revoked
SELECT apikey_create('handed') AS handed \gset
SET ROLE regress_apikey_bob;
SELECT apikey_create('handed') AS bobs \gset
SELECT apikey_self_revoke(:'bobs');
RESET ROLE;
SELECT apikey_transfer(apikey_id(:'handed'), 'regress_apikey_bob');
SELECT owner, status FROM apikeys WHERE name = 'handed' ORDER BY status;

DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_revocation;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
