-- A note in the place of an older one; no row where there is none of that number.
UPDATE notes SET call_id = $3, note = $4, written_at = now()
WHERE owner_sha256 = $1 AND number = $2
RETURNING number;
