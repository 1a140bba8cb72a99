-- Keys of seven kinds, 1,000 of each, and what times them; see timing.
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
CREATE TABLE issued AS SELECT kind, i, apikey_create('timing-' || kind || '-' || i) AS key FROM kind, generate_series(1, 1000) i;
CREATE TABLE offered AS SELECT kind, i, CASE WHEN kind BETWEEN 2 AND 5 THEN wrong_secret(key) ELSE key END AS key FROM issued;
SELECT count(apikey_delete(id, name)) FROM apikeys WHERE name LIKE 'timing-1-%';
SELECT count(apikey_revoke(id)) FROM apikeys WHERE name ~ '^timing-[56]-';
CREATE TABLE run (cold boolean, kind integer, us double precision);
VACUUM ANALYZE;

-- 20 calls between two looks at the clock, with the first 100 keys of each kind.
CREATE PROCEDURE measure(rounds integer) LANGUAGE plpgsql AS $$
DECLARE
	every text[][] := (SELECT array_agg(keys ORDER BY kind) FROM (SELECT kind, array_agg(key ORDER BY i) AS keys FROM offered WHERE i <= 100 GROUP BY kind) x);
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
			INSERT INTO run VALUES (false, k, extract(epoch FROM clock_timestamp() - started) * 1e6 / 20);
		END LOOP;
	END LOOP;
END $$;

-- One call each, with keys that nobody has asked for since the server's start.
CREATE PROCEDURE measure_cold() LANGUAGE plpgsql AS $$
DECLARE
	each record;
	started timestamptz;
	found boolean;
BEGIN
	PERFORM apikey_check('ak_' || repeat('0', 22));
	FOR each IN SELECT kind, key FROM offered WHERE kind <> 4 AND i > 100 ORDER BY random() LOOP
		started := clock_timestamp();
		found := apikey_check(each.key);
		INSERT INTO run VALUES (true, each.kind, extract(epoch FROM clock_timestamp() - started) * 1e6);
	END LOOP;
END $$;
