-- What the session $1 consumed, by agent and model; the dearest first.
SELECT
    turn.agent,
    call.model,
    count(*) AS calls,
    count(call.failure) AS failed_calls,
    sum(call.input_tokens)::bigint AS input_tokens,
    sum(call.cache_read_tokens)::bigint AS cache_read_tokens,
    sum(call.cache_write_tokens)::bigint AS cache_write_tokens,
    sum(call.output_tokens)::bigint AS output_tokens,
    sum(call.cost_micros)::bigint AS cost_micros
FROM model_calls AS call
LEFT JOIN LATERAL (
    SELECT turns.agent
    FROM turns
    WHERE turns.turn_id = call.turn_id
    ORDER BY turns.at <= call.at DESC, abs(extract(epoch FROM call.at - turns.at))
    LIMIT 1
) AS turn ON true
WHERE call.session_id = $1
GROUP BY 1, 2
ORDER BY cost_micros DESC, 1, 2
LIMIT 200;
