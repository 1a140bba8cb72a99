-- Times verifying keys of seven kinds; see timing, which gives rounds.
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;

-- A key of the same id with another secret, and the checksum of that.
CREATE FUNCTION wrong_secret(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	digits CONSTANT text := '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
	head text := left(key, -39) || reverse(left(right(key, 39), 33));
	crc bigint := 4294967295;
	checksum text := '';
BEGIN
	FOR i IN 0 .. length(head) - 1 LOOP
		crc := crc # get_byte(head::bytea, i);
		FOR bit IN 1 .. 8 LOOP
			crc := CASE crc & 1 WHEN 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	crc := crc # 4294967295;
	FOR i IN 1 .. 6 LOOP
		checksum := substr(digits, 1 + (crc % 62)::integer, 1) || checksum;
		crc := crc / 62;
	END LOOP;
	RETURN head || checksum;
END $$;

CREATE TABLE kind (kind integer, name text, code text);
INSERT INTO kind VALUES (1, 'unknown id', 'not_found'), (2, 'wrong secret, key unused', 'not_found'),
	(3, 'wrong secret, key used', 'not_found'), (4, 'wrong secret, key warm', 'not_found'),
	(5, 'wrong secret, revoked key', 'not_found'), (6, 'right secret, revoked key', 'revoked'), (7, 'right secret, valid key', 'valid');
CREATE TABLE issued AS SELECT kind, i, apikey_create('timing-' || kind || '-' || i) AS key FROM kind, generate_series(1, 100) i;
CREATE TABLE offered AS SELECT kind, i, CASE WHEN kind BETWEEN 2 AND 5 THEN wrong_secret(key) ELSE key END AS key FROM issued;
SELECT count(apikey_delete(id, name)) FROM apikeys WHERE name LIKE 'timing-1-%';
SELECT count(apikey_revoke(id)) FROM apikeys WHERE name ~ '^timing-[56]-';
-- Those that another process has verified have slots that say where their rows are.
SELECT count(*) FROM issued WHERE kind = 3 AND apikey_check(key);
CREATE TABLE run (kind integer, us double precision);
VACUUM ANALYZE;

CREATE PROCEDURE measure(rounds integer) LANGUAGE plpgsql AS $$
DECLARE
	every text[][] := (SELECT array_agg(keys ORDER BY kind) FROM (SELECT kind, array_agg(key ORDER BY i) AS keys FROM offered GROUP BY kind) x);
	mine text[];
	started timestamptz;
	found boolean;
	k integer;
BEGIN
	FOR round IN 1 .. rounds LOOP
		FOR k IN SELECT kind FROM kind ORDER BY random() LOOP
			mine := (SELECT array_agg(every[k][1 + (round * 20 + i) % 100]) FROM generate_series(1, 20) i);
			started := clock_timestamp();
			FOR i IN 1 .. 20 LOOP
				found := apikey_check(mine[i]);
			END LOOP;
			INSERT INTO run VALUES (k, extract(epoch FROM clock_timestamp() - started) * 1e6 / 20);
		END LOOP;
	END LOOP;
END $$;

-- In a new process, which verifies the warm keys and those that it will answer
-- for, and finds every text to be what it is meant to be.
\c
SELECT count(*) = 100 AS warm FROM issued WHERE kind = 4 AND apikey_check(key) \gset
SELECT count(*) = 0 AS as_meant FROM offered JOIN kind USING (kind), apikey_verify(key) v WHERE v.code <> kind.code \gset
\if :warm
\else
\warn the warm keys do not verify
SELECT 1 / 0;
\endif
\if :as_meant
\else
\warn a key is not of the kind that it is meant to be
SELECT 1 / 0;
\endif
CALL measure(:rounds);
