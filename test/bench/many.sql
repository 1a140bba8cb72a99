-- Many times the keys: of each key so many copies that nobody holds, nine where
-- no number of copies is given, with ids beside its own, so that the real ones
-- stand in every tenth place of tables and indexes.  What is made is what apikey_create makes, in the order of ids.
SET client_min_messages = warning;
\if :{?copies}
\else
\set copies 9
\endif
CREATE TEMP TABLE real_key AS SELECT * FROM apikey_key;
CREATE TEMP TABLE real_digest AS SELECT * FROM apikey_digest;
TRUNCATE apikey_key, apikey_digest;

CREATE FUNCTION pg_temp.beside(id uuid, i integer) RETURNS uuid LANGUAGE sql IMMUTABLE
	RETURN CASE i WHEN 0 THEN id ELSE overlay(id::text PLACING lpad(to_hex(i), 12, '0') FROM 25)::uuid END;

SELECT format('INSERT INTO %1$I (%2$s) SELECT %3$s FROM (SELECT * FROM %4$I ORDER BY id) k, generate_series(0, %5$s) i',
			  "table", string_agg(quote_ident(attname), ', ' ORDER BY attnum),
			  string_agg(CASE attname WHEN 'id' THEN 'pg_temp.beside(id, i)'
									  WHEN 'name' THEN 'name || ''-'' || i'
									  ELSE quote_ident(attname) END, ', ' ORDER BY attnum), copy, :copies)
	FROM (VALUES (1, 'apikey_key', 'real_key'), (2, 'apikey_digest', 'real_digest')) t (n, "table", copy)
	JOIN pg_attribute ON attrelid = "table"::regclass AND attnum > 0 AND NOT attisdropped
	GROUP BY n, "table", copy ORDER BY n \gexec

-- The first to read a row says in it that it is committed: let it not be us.
SELECT count(*) FROM apikey_key UNION ALL SELECT count(*) FROM apikey_digest \g /dev/null
CHECKPOINT;
