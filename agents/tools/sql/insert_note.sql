-- A new note with the next number; no row where the owner has as many as there may be.
INSERT INTO notes (owner_sha256, tenant, user_id, number, call_id, note)
SELECT $1::bytea, $2::text, $3::text, coalesce(max(number), 0) + 1, $4::text, $5::text FROM notes WHERE owner_sha256 = $1
HAVING count(*) < $6
RETURNING number;
