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
CREATE FUNCTION hand_verify(key text) RETURNS TABLE (id uuid, name text, scopes text[]) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT h.id, h.name, h.scopes FROM hand h
		WHERE h.hash = digest(key, 'sha256') AND h.revoked_at IS NULL AND (h.expires_at IS NULL OR h.expires_at > now());
END $$;
GRANT SELECT ON hand TO bench;
VACUUM (FREEZE, ANALYZE);
