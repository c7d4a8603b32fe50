-- The API key with the id $1, in force or not.
SELECT id, secret_sha256, name, tenant, scopes, requests_per_second, expires_at, revoked_at
FROM api_keys
WHERE id = $1;
