-- Who may come in at the gateway. The secret itself is nowhere: it is 256 random bits, so a plain digest keeps it.
CREATE TABLE api_keys (
    id text NOT NULL PRIMARY KEY CHECK (id ~ '^[0-9a-f]{16}$'),
    secret_sha256 bytea NOT NULL CHECK (length(secret_sha256) = 32),
    name text NOT NULL,
    -- Without a tenant it is an operator's key.
    tenant text CHECK (tenant ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    scopes text [] NOT NULL,
    -- Without a rate of its own, the gateway's setting holds.
    requests_per_second double precision CHECK (requests_per_second > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
