-- Notes that a migration was applied.
INSERT INTO headrace_migrations (number, name, checksum) VALUES ($1, $2, $3);
