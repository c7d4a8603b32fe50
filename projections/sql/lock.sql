-- Waits for the advisory lock $1 and holds it until the connection ends.
SELECT pg_advisory_lock($1);
