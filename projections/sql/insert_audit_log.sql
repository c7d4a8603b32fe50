-- Adds acts; one that is there stays as it was first.
INSERT INTO audit_log (
    at, topic, partition, "offset", id, event_type, user_id, session_id, tenant, ip_address, key_id, details, outcome,
    outcome_details
)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::inet[], $11::text[], $12::jsonb[], $13::text[], $14::text[]
)
ON CONFLICT DO NOTHING;
