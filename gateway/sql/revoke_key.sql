-- Ends the key $1 now; one that was revoked before stays so since then. Gives its tenant and its name.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE id = $1
RETURNING tenant, name;
