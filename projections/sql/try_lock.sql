-- Takes the advisory lock $1, held until the connection ends; false where somebody else has it.
SELECT pg_try_advisory_lock($1);
