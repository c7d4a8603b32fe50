-- All that was applied.
SELECT number, name, checksum, applied_at FROM headrace_migrations ORDER BY number;
