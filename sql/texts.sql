-- Random texts, and keys changed at random, in the place of a key: never an
-- error, and one answer from every function.  Each query shows what breaks a
-- rule, so none shows a row.  For more or fewer: test/long/texts.
\set count 20000
\set seed 0.25
\getenv count APIKEY_TEXTS
\getenv seed APIKEY_TEXTS_SEED
CREATE TEMP TABLE known (n integer PRIMARY KEY, key text NOT NULL, live boolean NOT NULL);
INSERT INTO known SELECT n, apikey_create('texts-' || n, prefix => (ARRAY['ak', 'a', 'sk_live', 'a_prefix_of_20_chars'])[1 + n % 4]), n % 2 = 0
	FROM generate_series(0, 199) n;
SELECT count(apikey_delete(a.id, a.name)) FROM known k JOIN apikeys a ON a.id = apikey_id(k.key) WHERE NOT k.live;

-- Any character that a text may have.
CREATE FUNCTION pg_temp.any_char() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c integer := 1 + floor(random() * (ARRAY[126, 1000, 65534, 1114110])[1 + floor(random() * 4)::integer]);
BEGIN
	RETURN chr(CASE WHEN c BETWEEN 55296 AND 57343 THEN 95 ELSE c END);
END $$;
CREATE FUNCTION pg_temp.any_digit() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz', 1 + floor(random() * 62)::integer, 1);
END $$;
CREATE FUNCTION pg_temp.change(key text, other text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	at integer := 1 + floor(random() * length(key));
	n integer := floor(random() * 80);
BEGIN
	RETURN CASE floor(random() * 16)::integer
		WHEN 0 THEN (SELECT coalesce(string_agg(pg_temp.any_char(), ''), '') FROM generate_series(1, n))
		WHEN 1 THEN left(key, at)
		WHEN 2 THEN overlay(key PLACING pg_temp.any_digit() FROM at)
		WHEN 3 THEN overlay(key PLACING pg_temp.any_char() FROM at)
		WHEN 4 THEN overlay(key PLACING pg_temp.any_digit() FROM at FOR 0)
		WHEN 5 THEN overlay(key PLACING '' FROM at FOR 1)
		WHEN 6 THEN overlay(key PLACING reverse(substr(key, at, 2)) FROM at)
		WHEN 7 THEN CASE WHEN n < 40 THEN upper(key) ELSE lower(key) END
		WHEN 8 THEN key || pg_temp.any_char()
		WHEN 9 THEN pg_temp.any_char() || key
		WHEN 10 THEN 'ak_' || (SELECT string_agg(pg_temp.any_digit(), '') FROM generate_series(1, 61 + n % 3 - 1))
		WHEN 11 THEN left(repeat(lower(pg_temp.any_digit()) || '_x1', 6), n % 24) || '_' || right(key, 61)
		WHEN 12 THEN repeat(key, 1 + n % 12)
		WHEN 13 THEN left(key, -39) || right(other, 39)
		WHEN 14 THEN left(key, -61) || right(other, 61)
		ELSE key END;
END $$;
SELECT setseed(:seed);
CREATE TEMP TABLE texts AS SELECT pg_temp.change(a.key, b.key) AS t
	FROM (SELECT floor(random() * 200)::integer AS i, floor(random() * 200)::integer AS j FROM generate_series(1, :count)) r
	JOIN known a ON a.n = r.i JOIN known b ON b.n = r.j;
CREATE TEMP TABLE answers AS SELECT t, v.code, v.valid, num_nonnulls(v.key_id, v.name, v.project, v.owner, v.subject, v.role, v.scopes, v.metadata,
		v.expires_at, v.credits, v.rate_remaining, v.rate_reset_at, v.detail) AS told,
		apikey_check(t) AS checked, apikey_id(t) AS id, p.prefix, p.id AS parsed, p.checksum_ok,
		t IN (SELECT key FROM known WHERE live) AS live, t IN (SELECT key FROM known) AS known,
		d.code AS digest_code, r.code AS random_code
	FROM texts, apikey_verify(t) v, apikey_parse(t) p, apikey_verify_digest(left(t, -39), sha256(convert_to(t, 'UTF8'))) d,
		apikey_verify_digest(t, convert_to(left(t, 32), 'UTF8')) r;
SELECT count(*) = :count AS all_answered, count(*) FILTER (WHERE code = 'valid') > 0 AS some_valid,
		count(*) FILTER (WHERE code = 'not_found') > 0 AS some_unknown, count(*) FILTER (WHERE code = 'malformed') > :count / 2 AS most_malformed
	FROM answers;

-- valid is what was issued and lives, and no other text is more than unknown
SELECT t, code FROM answers WHERE code <> CASE WHEN live THEN 'valid' WHEN checksum_ok AND octet_length(t) <= 512 THEN 'not_found' WHEN t = '' THEN 'missing' ELSE 'malformed' END;
SELECT t, code FROM answers WHERE valid <> live OR checked <> live;
-- nothing is told of any other
SELECT t, told FROM answers WHERE told > 0 AND NOT live;
-- a text is read the same by all, and only if it has the shape
SELECT t, id, parsed FROM answers WHERE id IS DISTINCT FROM parsed OR (id IS NULL) <> (prefix IS NULL) OR checksum_ok AND id IS NULL;
SELECT t, id, prefix FROM answers WHERE id IS NOT NULL AND NOT (t ~ '^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$' AND prefix = left(t, -62));
SELECT t, checksum_ok FROM answers WHERE known AND NOT checksum_ok;
-- nor is a digest worth more than the text
SELECT t, code, digest_code FROM answers WHERE (digest_code = 'valid') <> live OR digest_code NOT IN ('valid', 'not_found', 'malformed', 'missing');
-- of what is left of a short text, the handle is missing
SELECT t, digest_code FROM answers WHERE (digest_code = 'missing') <> (length(t) <= 39);
SELECT t, random_code FROM answers WHERE random_code NOT IN ('not_found', 'malformed', 'missing');
-- only a key revokes itself, and the others still live
SELECT t FROM answers WHERE NOT live AND apikey_self_revoke(t);
SELECT n FROM known WHERE live <> apikey_check(key);
SELECT count(apikey_self_revoke(key)) = 100 AS revoked FROM known WHERE live;
SELECT count(apikey_delete(id, name)) = 100 AS deleted FROM apikeys WHERE name LIKE 'texts-%';
