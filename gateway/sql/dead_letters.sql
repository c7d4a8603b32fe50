-- Dead letters, the newest first, $9 at most: of sessions whose id begins with $1, of the cause $2, from the topic $3, of
-- the session $4, from the time $5 to before $6, each where it is given; behind the time $7 and id $8.
SELECT id, at, processor, cause, error, session_id, record_at, octet_length(record_value) AS bytes
FROM dead_letters
WHERE ($1::text IS NULL OR starts_with(session_id, $1))
    AND ($2::text IS NULL OR cause = $2)
    AND ($3::text IS NULL OR starts_with(id, $3 || '/'))
    AND ($4::text IS NULL OR session_id = $4)
    AND ($5::timestamptz IS NULL OR at >= $5)
    AND ($6::timestamptz IS NULL OR at < $6)
    AND (at, id) < ($7, $8)
ORDER BY at DESC, id DESC
LIMIT $9;
