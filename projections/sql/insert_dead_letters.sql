-- Adds dead letters; one that is there stays as it was first.
INSERT INTO dead_letters (
    at, topic, partition, "offset", id, processor, cause, error, session_id, record_at, record_key,
    record_value, record_headers
)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::timestamptz[], $11::bytea[], $12::bytea[], $13::jsonb[]
)
ON CONFLICT DO NOTHING;
