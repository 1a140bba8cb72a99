-- What test/bench/limits measures: keys with and without limits, limits of
-- others, and counters written by hand.
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
SELECT count(apikey_organization_create(o)), count(apikey_project_create(o || '/pay')) FROM unnest('{acme,meter,free}'::text[]) o;
CREATE TABLE bench_keys (name text PRIMARY KEY, key text);
INSERT INTO bench_keys
	SELECT name, apikey_create(name, project, subject => 'carl')
	FROM (VALUES ('limited', 'acme/pay'), ('metered', 'meter/pay'), ('bare', 'free/pay')) AS keys (name, project);

-- Eight limits over four holders, that nobody reaches: of requests, which each
-- verification spends, and of tokens.
CREATE FUNCTION set_limits(name text, organization text, unit text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	key_id uuid := (SELECT apikey_id(key) FROM bench_keys WHERE bench_keys.name = set_limits.name);
	kind text;
BEGIN
	FOREACH kind IN ARRAY '{rate,quota}'::text[] LOOP
		PERFORM apikey_limit_set(unit, 1000000000000000, '1 day', kind, key => key_id),
			apikey_limit_set(unit, 1000000000000000, '1 day', kind, path => organization || '/pay', subject => 'carl'),
			apikey_limit_set(unit, 1000000000000000, '1 day', kind, path => organization || '/pay'),
			apikey_limit_set(unit, 1000000000000000, '1 day', kind, path => organization);
	END LOOP;
END $$;
SELECT set_limits('limited', 'acme', 'requests'), set_limits('metered', 'meter', 'tokens');

CREATE TABLE hand (holder text PRIMARY KEY, spent bigint NOT NULL, amount bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO hand SELECT h, 0, 1000000000000000 FROM unnest('{1 key,2 subject,3 project,4 organization}'::text[]) h;

-- Limits of others: of keys, and of subjects in this project.
INSERT INTO apikey_limit (id, key, organization, project, subject, unit, kind, amount, period, shared, overdraft, starts_at, created_at, created_by)
	SELECT gen_random_uuid(), CASE WHEN i % 2 = 0 THEN gen_random_uuid() END,
		CASE WHEN i % 2 = 1 THEN p.organization END, CASE WHEN i % 2 = 1 THEN p.id END, CASE WHEN i % 2 = 1 THEN 'subject-' || i END,
		'requests', 'rate', 1000, '1 minute', false, 0, now(), now(), 'bench'
	FROM generate_series(1, :limits) i, apikey_project p WHERE p.path = 'free/pay';
VACUUM ANALYZE;
