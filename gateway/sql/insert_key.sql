-- A new key: id, digest of the secret, name, tenant, scopes, requests per second, when it expires.
INSERT INTO api_keys (id, secret_sha256, name, tenant, scopes, requests_per_second, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);
