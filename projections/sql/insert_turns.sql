-- Adds turns that started; one that is there stays as it was first.
INSERT INTO turns (
    at, topic, partition, "offset", turn_id, session_id, agent, tenant, user_id
)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[]
)
ON CONFLICT DO NOTHING;
