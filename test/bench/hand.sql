-- What people write by hand to verify a key, writing nothing; of a table "hand".
CREATE FUNCTION hand_verify(key text) RETURNS TABLE (id uuid, name text, scopes text[]) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT h.id, h.name, h.scopes FROM hand h
		WHERE h.hash = digest(key, 'sha256') AND h.revoked_at IS NULL AND (h.expires_at IS NULL OR h.expires_at > now());
END $$;
