-- The owner's notes that have any of the words, those that have more of them first.
SELECT number, note, written_at FROM notes
WHERE owner_sha256 = $1 AND to_tsvector('simple', note) @@ to_tsquery('simple', $2)
ORDER BY ts_rank(to_tsvector('simple', note), to_tsquery('simple', $2)) DESC, written_at DESC, number DESC
LIMIT $3;
