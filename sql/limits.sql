-- Limits where the library is not preloaded: nothing can hold them.
CREATE ROLE regress_apikey_alice;
SET ROLE regress_apikey_alice;
SELECT apikey_create('one', credits => 5) AS key, apikey_create('two') AS other \gset
\set VERBOSITY sqlstate
SELECT apikey_limit_set('tokens', 100, '1 day', 'quota', key => apikey_id(:'key')); -- fail
SELECT apikey_limit_set('requests', 100, '1 minute', subject => 'anna'); -- fail
SELECT apikey_limit_add('018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f', 1); -- fail
SELECT apikey_limit_drop('018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f'); -- fail
SELECT apikey_charge(apikey_id(:'key'), '{"tokens": 1}'); -- fail
SELECT count(*) FROM apikey_limits;
-- Costs of units that have no limit cost nothing; they are read all the same.
SELECT code, credits, detail->'limits' IS NOT NULL AS limits FROM apikey_verify(:'key', costs => '{"tokens": 800}');
SELECT code, detail FROM apikey_verify(:'other', costs => '{}');
SELECT code, detail FROM apikey_verify(:'other', costs => NULL);
SELECT code FROM apikey_verify('no key', costs => '{"tokens": 1}');
SELECT code FROM apikey_verify(:'key', costs => '{"tokens": -1}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '{"tokens": 0.5}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '{"tokens": "1"}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '{"tokens": null}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '{"tokens": 9007199254740993}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '{"requests": 1}'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '[1]'); -- fail
SELECT code FROM apikey_verify(:'key', costs => '1'); -- fail
SELECT code FROM apikey_verify(:'key', costs => 'null'); -- fail
SELECT code FROM apikey_verify('no key', costs => '{"tokens": -1}'); -- fail
SELECT apikey_authenticate(:'key', costs => '{"tokens": -1}'); -- fail
SELECT apikey_authenticate(:'key', costs => '{"tokens": 10.0, "images": 9007199254740992}') = apikey_id(:'key') AS who;
\set VERBOSITY default
SELECT code FROM apikey_verify_digest(left(:'key', -39), sha256(:'key'::bytea), costs => '{"tokens": 3}');
SELECT apikey_authenticate_digest(left(:'key', -39), sha256(:'key'::bytea), costs => '{"tokens": 3}') = apikey_id(:'key') AS who;
-- The credits of a key are a limit of it like any other.
SELECT code, credits, detail FROM apikey_verify(:'key', cost => 3);
SELECT code, jsonb_array_length(detail->'limits') AS limits FROM apikey_verify(:'key', costs => '{"tokens": 1}');
RESET ROLE;
-- What came with a dump holds nobody, and lets nobody through.
INSERT INTO apikey_limit VALUES (gen_random_uuid(), apikey_id(:'other'), NULL, NULL, NULL, NULL, NULL,
	'requests', 'rate', 5, '1 minute', false, 0, now(), now(), 'x');
SET ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'other');
SELECT unit, kind, amount, period, remaining FROM apikey_limits;
SELECT code FROM apikey_verify(:'key', cost => 0);
RESET ROLE;
DELETE FROM apikey_limit;
SET ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'other');
-- Other ways are refused.
\set VERBOSITY terse
INSERT INTO apikey_limits (unit) VALUES ('tokens'); -- fail
DELETE FROM apikey_limits; -- fail
SELECT apikey_delete(id, name) FROM apikeys;
RESET ROLE;
DROP ROLE regress_apikey_alice;
