-- The owner's notes, newest first.
SELECT number, note, written_at FROM notes WHERE owner_sha256 = $1 ORDER BY written_at DESC, number DESC LIMIT $2;
