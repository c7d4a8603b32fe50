-- Facts and events of the session $1 behind the time $2, rank $3 and offset $4, $5 at most; a body of more than $6 bytes
-- is left out. At one time, facts (rank 0) come before the events (rank 1) that followed from them.
WITH found AS (
    SELECT at, (topic = 'agent-events')::int AS rank, topic, partition, "offset", type, turn_id, body
    FROM events
    WHERE session_id = $1
        AND at >= $2
        AND (at, (topic = 'agent-events')::int, "offset") > ($2, $3::int, $4)
    ORDER BY at, rank, "offset"
    LIMIT $5
)
SELECT
    found.at,
    found.rank,
    found.topic,
    found.partition,
    found."offset",
    found.type,
    found.turn_id,
    coalesce(
        (found.body ->> 'duration_ms')::bigint,
        greatest(0, round(extract(epoch FROM found.at - start.at) * 1000))::bigint
    ) AS duration_ms,
    (found.body #>> '{usage,input_tokens}')::bigint
    + (found.body #>> '{usage,cache_read_tokens}')::bigint
    + (found.body #>> '{usage,cache_write_tokens}')::bigint AS input_tokens,
    (found.body #>> '{usage,output_tokens}')::bigint AS output_tokens,
    (found.body ->> 'cost_micros')::bigint AS cost_micros,
    CASE WHEN octet_length(found.body::text) <= $6 THEN found.body::text END AS body,
    octet_length(found.body::text) AS body_bytes
FROM found
LEFT JOIN LATERAL (
    SELECT s.at
    FROM events AS s
    WHERE s.session_id = $1
        AND s.topic = 'agent-events'
        AND s.type = 'turn_started'
        AND s.body ->> 'message_id' = found.body ->> 'message_id'
        AND s.turn_id = found.turn_id
        AND s."offset" < found."offset"
        AND found.type IN ('turn_completed', 'turn_failed', 'turn_cancelled')
    ORDER BY s."offset" DESC
    LIMIT 1
) AS start ON true
ORDER BY found.at, found.rank, found."offset";
