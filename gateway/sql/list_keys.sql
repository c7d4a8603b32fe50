-- All keys, without their digests; the newest first.
SELECT id, name, tenant, scopes, requests_per_second, created_at, expires_at, revoked_at, last_used_at
FROM api_keys
ORDER BY created_at DESC, id;
