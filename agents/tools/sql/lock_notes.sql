-- Until the end of the transaction nobody else keeps notes of this owner.
SELECT pg_advisory_xact_lock($1);
