-- Credits where the library is not preloaded: spent in the row of the account.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_mallory;
SET ROLE regress_apikey_alice;
SELECT apikey_create('three', credits => 3) AS three, apikey_create('free') AS free,
	apikey_create('zero', credits => 0) AS zero,
	apikey_create('refilled', credits => 2, credits_refill => 10, credits_interval => '1 day') AS refilled \gset
SELECT name, credits, credits_refill, credits_interval FROM apikeys ORDER BY name;
-- each use costs one, or what it says; what does not suffice is not taken
SELECT code, credits FROM apikey_verify(:'three');
SELECT code, credits FROM apikey_verify(:'three', cost => 3);
SELECT code, credits FROM apikey_verify(:'three', cost => 0);
SELECT apikey_check(:'three');
SELECT valid, code, credits FROM apikey_verify(:'three', cost => 2);
SELECT valid, code, credits, name FROM apikey_verify(:'three');
SELECT apikey_check(:'three');
SELECT code, credits FROM apikey_verify(:'zero');
SELECT code, credits FROM apikey_verify(:'free');
-- other refusals are free
SELECT apikey_credits_add(id, 2) FROM apikeys WHERE name = 'three';
SELECT code, credits FROM apikey_verify(:'three', scopes => '{a}');
SELECT code, credits FROM apikey_verify(:'three', project => 'acme/payments');
SELECT credits FROM apikeys WHERE name = 'three';
-- a spend is given back on rollback, of a savepoint too
BEGIN;
SELECT code, credits FROM apikey_verify(:'three');
SAVEPOINT a;
SELECT code, credits FROM apikey_verify(:'three');
SELECT code, credits FROM apikey_verify(:'three');
ROLLBACK TO a;
SELECT credits FROM apikeys WHERE name = 'three';
ROLLBACK;
SELECT credits FROM apikeys WHERE name = 'three';
-- not where nothing can be written
BEGIN READ ONLY;
SELECT valid, code, credits FROM apikey_verify(:'three');
SELECT code, credits FROM apikey_verify(:'three', cost => 0);
COMMIT;
-- at every isolation level
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT code, credits FROM apikey_verify(:'three');
COMMIT;
-- many in a statement
SELECT apikey_credits_add(id, 999) FROM apikeys WHERE name = 'three';
SELECT v.code, count(*), min(v.credits), max(v.credits)
	FROM generate_series(1, 1100) i, apikey_verify(CASE WHEN i > 0 THEN :'three' END) v GROUP BY 1 ORDER BY 1;
-- made and spent in one transaction
BEGIN;
SELECT apikey_create('young', credits => 1) AS young \gset
SELECT code, credits FROM apikey_verify(:'young');
SELECT code, credits FROM apikey_verify(:'young');
COMMIT;

-- UPDATE sets or removes them as a whole
UPDATE apikeys SET credits = 5 WHERE name = 'three' RETURNING credits;
SELECT code, credits FROM apikey_verify(:'three');
UPDATE apikeys SET description = 'spent meanwhile', credits = credits + 10 WHERE name = 'three' RETURNING credits;
UPDATE apikeys SET credits = 1 WHERE name = 'free';
SELECT code, credits FROM apikey_verify(:'free');
SELECT code, credits FROM apikey_verify(:'free');
UPDATE apikeys SET credits = NULL WHERE name = 'free';
SELECT code, credits FROM apikey_verify(:'free');
RESET ROLE;
SELECT count(*) FROM apikey_credit;
SET ROLE regress_apikey_alice;
-- a refill sets them to its amount, whatever was left, however late
SELECT code, credits FROM apikey_verify(:'refilled');
RESET ROLE;
UPDATE apikey_credit SET refill_at = refill_at - interval '10 days' WHERE refill IS NOT NULL;
SET ROLE regress_apikey_alice;
SELECT credits FROM apikeys WHERE name = 'refilled';
SELECT code, credits FROM apikey_verify(:'refilled');
RESET ROLE;
SELECT balance, refill_at > now(), refill_at <= now() + interval '1 day' FROM apikey_credit WHERE refill IS NOT NULL;
SET ROLE regress_apikey_alice;
UPDATE apikeys SET credits_refill = 20, credits_interval = '1 month' WHERE name = 'refilled'
	RETURNING credits, credits_refill, credits_interval;
RESET ROLE;
SELECT balance, refill_at > now() + interval '27 days' FROM apikey_credit WHERE refill IS NOT NULL;
-- a month is a month of the calendar, and does not drift
UPDATE apikey_credit SET refill_at = '2024-01-31 00:00+00' WHERE refill IS NOT NULL;
SET ROLE regress_apikey_alice;
SELECT code, credits FROM apikey_verify(:'refilled', cost => 2);
RESET ROLE;
SELECT balance, refill_at > now(), refill_at <= now() + interval '31 days' FROM apikey_credit WHERE refill IS NOT NULL;
SET ROLE regress_apikey_alice;
UPDATE apikeys SET credits_refill = NULL, credits_interval = NULL WHERE name = 'refilled'
	RETURNING credits, credits_refill, credits_interval;

-- a key in its grace and its successor have them once, together
SELECT apikey_create('turned', credits => 3) AS turned \gset
SELECT apikey_rotate(id, '1 day') AS successor FROM apikeys WHERE name = 'turned' \gset
SELECT code, credits FROM apikey_verify(:'turned');
SELECT code, credits FROM apikey_verify(:'successor');
SELECT code, credits FROM apikey_verify(:'turned');
SELECT code, credits FROM apikey_verify(:'successor');
UPDATE apikeys SET credits = 4 WHERE id = apikey_id(:'successor');
SELECT name, credits FROM apikeys WHERE name = 'turned';
SELECT apikey_delete(apikey_id(:'turned'), 'turned');
SELECT code, credits FROM apikey_verify(:'successor');

-- fail: bad values
\set VERBOSITY sqlstate
SELECT apikey_create('bad-1', credits => -1);
SELECT apikey_create('bad-1', credits_refill => 1, credits_interval => '1 day');
SELECT apikey_create('bad-1', credits => 1, credits_refill => 1);
SELECT apikey_create('bad-1', credits => 1, credits_interval => '1 day');
SELECT apikey_create('bad-1', credits => 1, credits_refill => 0, credits_interval => '1 day');
SELECT apikey_create('bad-1', credits => 1, credits_refill => 1, credits_interval => '0');
SELECT apikey_create('bad-1', credits => 1, credits_refill => 1, credits_interval => '-1 day');
SELECT apikey_create('bad-1', credits => 1, credits_refill => 1, credits_interval => '101 years');
UPDATE apikeys SET credits = -1 WHERE name = 'three';
UPDATE apikeys SET credits_refill = 1 WHERE name = 'three';
UPDATE apikeys SET credits_refill = 1, credits_interval = '1 day' WHERE name = 'free';
SELECT apikey_credits_add(id, 0) FROM apikeys WHERE name = 'three';
SELECT apikey_credits_add(id, -1) FROM apikeys WHERE name = 'three';
SELECT apikey_credits_add(id, NULL) FROM apikeys WHERE name = 'three';
SELECT apikey_credits_add(NULL, 1);
SELECT apikey_credits_add(id, 9223372036854775807) FROM apikeys WHERE name = 'three';
-- fail: a key without
SELECT apikey_credits_add(id, 1) FROM apikeys WHERE name = 'free';
-- fail: another's
SELECT id AS three_id FROM apikeys WHERE name = 'three' \gset
SET ROLE regress_apikey_mallory;
SELECT apikey_credits_add(:'three_id', 1);
SELECT credits FROM _apikey_keys(:'three_id', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT * FROM apikey_credit;
UPDATE apikey_credit SET balance = 1000;
-- the row is gone: nothing can be decided
RESET ROLE;
DELETE FROM apikey_credit WHERE id = :'three_id';
SELECT code, credits FROM apikey_verify(:'three', owner => 'regress_apikey_alice');
SELECT code, credits FROM apikey_verify(:'three', cost => 0, owner => 'regress_apikey_alice');
SELECT credits FROM apikeys WHERE name = 'three';
SELECT apikey_credits_add(:'three_id', 1);
\set VERBOSITY default
SELECT key_name, event, detail FROM apikey_events WHERE key_name IN ('three', 'refilled') ORDER BY id;
-- deleted with the key
SET ROLE regress_apikey_alice;
SELECT apikey_delete(id, name) FROM apikeys ORDER BY id;
RESET ROLE;
SELECT count(*) FROM apikey_credit;
DROP ROLE regress_apikey_alice, regress_apikey_mallory;
