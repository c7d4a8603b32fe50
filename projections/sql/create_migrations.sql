-- What was applied to this database.
CREATE TABLE IF NOT EXISTS headrace_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
