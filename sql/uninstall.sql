-- Nothing is left.
DROP EXTENSION apikey;
SELECT pg_describe_object(c.classid, c.objid, 0)
	FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class WHERE relname ~ '^_?apikey'
		  UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proname ~ '^_?apikey'
		  UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typname ~ '^_*apikey') AS c;
DROP EXTENSION pgcrypto;
