-- The interface's vector.
SELECT * FROM apikey_parse('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
SELECT apikey_id('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
-- Stored under it by hand, it verifies: our digest is that of the interface.
INSERT INTO apikey_key (id, owner, disabled, created_at, owner_name, prefix, last_four,
						name, scopes, metadata)
	SELECT '018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f', oid, false, now(), rolname, 'ak', 'ixQk',
		   'vector', '{}', '{}'
	FROM pg_roles WHERE rolname = current_user;
INSERT INTO apikey_digest VALUES ('018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f',
	'\x9820cbca0da7a5cd7f3bc1ad4df958b6324a8a5cd2eb545b780e895d5eacc98b', 0);
SELECT valid, code, name
	FROM apikey_verify('ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk');
SELECT apikey_delete('018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f', 'vector');

-- An independent reading of the format, in SQL.
CREATE FUNCTION regress_base62(digits text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	n numeric := 0;
BEGIN
	FOR i IN 1 .. length(digits) LOOP
		n := n * 62 + position(substr(digits, i, 1) IN
			'0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz') - 1;
	END LOOP;
	RETURN n;
END $$;
CREATE FUNCTION regress_uuid(n numeric) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	hex text := '';
BEGIN
	FOR i IN 1 .. 32 LOOP
		hex := to_hex((n % 16)::int) || hex;
		n := div(n, 16);
	END LOOP;
	RETURN hex::uuid;
END $$;
CREATE FUNCTION regress_crc32(data text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	crc bigint := 4294967295;
BEGIN
	FOR i IN 1 .. length(data) LOOP
		crc := crc # ascii(substr(data, i, 1));
		FOR j IN 1 .. 8 LOOP
			crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	RETURN crc # 4294967295;
END $$;
SELECT regress_crc32('123456789') = x'cbf43926'::bigint AS check_value;

CREATE TEMP TABLE made AS
	SELECT apikey_create(p || '-' || i, prefix => p) AS key, p, i
	FROM generate_series(1, 40) AS i,
		(VALUES ('a'), ('ak'), ('acme_live'), ('a1234567890123456_89')) AS v (p);
SELECT count(*) AS keys,
	   bool_and(key ~ '^[a-z][a-z0-9_]{0,19}_[0-9A-Za-z]{61}$') AS shape,
	   bool_and(key LIKE replace(p, '_', '\_') || '\_%') AS prefix,
	   bool_and(apikey_id(key) = regress_uuid(regress_base62(left(right(key, 61), 22)))) AS id,
	   bool_and(regress_base62(right(key, 6)) = regress_crc32(left(key, -6))) AS checksum,
	   bool_and(apikey_parse(key) = (p, apikey_id(key), true)) AS parse,
	   bool_and(apikey_id(key)::text ~ '^.{14}7.{4}[89ab]') AS uuid_v7,
	   bool_and(abs(extract(epoch FROM now()) - ('x' || left(replace(apikey_id(key)::text, '-', ''), 12))::bit(48)::bigint / 1000.0) < 60) AS time,
	   count(DISTINCT substr(right(key, 39), 1, 33)) = count(*) AS secrets
	FROM made;
SELECT count(*) AS stored
	FROM made JOIN apikey_digest d ON d.id = apikey_id(key)
	WHERE d.digest = hmac(digest(key, 'sha256'), '', 'sha256');
SELECT count(*) AS masked
	FROM made JOIN apikeys k ON k.id = apikey_id(key)
	WHERE starts_with(masked_key, p || '_') AND right(masked_key, 4) = right(key, 4)
	  AND position(substr(right(key, 39), 1, 33) IN k::text) = 0;
-- Ids rise with time.
SELECT bool_and(id > before) AS rising
	FROM (SELECT apikey_id(key) AS id, lag(apikey_id(key)) OVER (ORDER BY i, p) AS before
		  FROM (SELECT i, apikey_create('rising-' || i) AS key, '' AS p
				FROM generate_series(1, 20) i, pg_sleep(0.001)) AS k) AS r;
-- The secret's digits are spread evenly: 62 of them, none far from its share.
SELECT count(*) AS digits, min(n) > 170 AND max(n) < 370 AS even
	FROM (SELECT count(*) AS n
		  FROM (SELECT apikey_create('even-' || i) AS key FROM generate_series(1, 500) i) AS k,
			regexp_split_to_table(left(right(key, 39), 33), '') AS digit
		  GROUP BY digit) AS counts;

-- What is not a key's shape.
CREATE TEMP TABLE shapes (what text, key text);
INSERT INTO shapes VALUES
	('null', NULL),
	('empty', ''),
	('wrong checksum', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQl'),
	('one digit less', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQ'),
	('one digit more', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk0'),
	('another prefix', 'bk_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('no prefix', '_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('no separator', 'ak02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('capital prefix', 'Ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('digit first', '1k_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('prefix of 21', 'a12345678901234567890_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('space before', ' ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('newline after', E'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk\n'),
	('a dash in it', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSS-3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('another script', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSSé3cr3tS3cr3tS3cr3tS3cr3rixQk'),
	('id of 2^128', 'ak_7n42DGM5Tflk9n8mt7Fhc8SSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('id of 2^128 - 1', 'ak_7n42DGM5Tflk9n8mt7Fhc7SSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk'),
	('checksum of 2^32', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr34gfFC4'),
	('checksum of 2^32 - 1', 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr34gfFC3');
SELECT regress_base62('7n42DGM5Tflk9n8mt7Fhc8') = 2::numeric ^ 128 AS id_bound,
	   regress_base62('4gfFC4') = 2::numeric ^ 32 AS checksum_bound;
SELECT what, (apikey_parse(key)).*, apikey_id(key), code
	FROM shapes, apikey_verify(key) ORDER BY what COLLATE "C";
-- Both can be used in an index, and read no table.
CREATE INDEX ON made (apikey_id(key));
DO $$
DECLARE
	line text;
BEGIN
	FOR line IN EXPLAIN (COSTS OFF) SELECT FROM shapes WHERE apikey_id('x') IS NOT NULL LOOP
		IF line ~ 'Filter' THEN
			RAISE NOTICE '%', trim(line);
		END IF;
	END LOOP;
END $$;

DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION regress_base62, regress_uuid, regress_crc32;
