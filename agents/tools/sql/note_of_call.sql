-- The note that a call has kept already.
SELECT number FROM notes WHERE owner_sha256 = $1 AND call_id = $2;
