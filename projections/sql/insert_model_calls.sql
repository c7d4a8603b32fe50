-- Adds model calls that ended; one that is there stays as it was first.
INSERT INTO model_calls (
    at, topic, partition, "offset", call_id, turn_id, session_id, model, input_tokens, cache_read_tokens,
    cache_write_tokens, output_tokens, cost_micros, attempts, duration_ms, failure
)
SELECT * FROM unnest(
    $1::timestamptz[], $2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::integer[], $15::bigint[],
    $16::text[]
)
ON CONFLICT DO NOTHING;
