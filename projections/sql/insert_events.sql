-- Adds events; one that is there stays as it was first.
INSERT INTO events (
    at, topic, partition, "offset", id, type, session_id, turn_id, body
)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::jsonb[]
)
ON CONFLICT DO NOTHING;
