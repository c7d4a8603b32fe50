-- The dead letter with the id $1 and its record, where its session's id begins with $2, if that is given.
SELECT
    id,
    at,
    processor,
    cause,
    error,
    session_id,
    record_at,
    record_key,
    record_value,
    record_headers::text AS record_headers,
    octet_length(record_value) AS bytes
FROM dead_letters
WHERE id = $1 AND ($2::text IS NULL OR starts_with(session_id, $2));
