-- What people write by hand, with the same keys and as many more, whose hashes
-- stand among theirs.  Indexes are made when all is there.
SET client_min_messages = warning;
CREATE UNLOGGED TABLE hand AS
	SELECT gen_random_uuid() AS id,
		   CASE i WHEN 1 THEN sha256(key::bytea) ELSE sha256(gen_random_uuid()::text::bytea) END AS hash,
		   substr(key, 4, 8) || '-' || i AS name, current_user AS owner, '{a,b}'::text[] AS scopes, '{}'::jsonb AS metadata,
		   now() AS created_at, NULL::timestamptz AS expires_at, NULL::timestamptz AS revoked_at, NULL::timestamptz AS last_used_at
	FROM bench_keys, generate_series(1, :copies) i;
ALTER TABLE hand ADD PRIMARY KEY (id), ALTER hash SET NOT NULL, ADD UNIQUE (hash);
\ir hand.sql
GRANT SELECT ON hand TO bench;
VACUUM (FREEZE, ANALYZE);
