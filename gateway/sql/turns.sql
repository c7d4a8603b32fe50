-- Turns of the session $1 whose first event is behind the offset $2, in their order, $3 at most: when they began and
-- ended, and what they took. A turn's id comes again in a session that was forgotten, so its calls are found by time too:
-- within a minute around it, because clocks of two machines differ a little.
WITH begun AS (
    SELECT "offset", at, type, turn_id, body
    FROM events
    WHERE session_id = $1
        AND topic = 'agent-events'
        AND "offset" > $2
        AND (
            type = 'turn_started'
            OR type IN ('turn_completed', 'turn_failed', 'turn_cancelled') AND NOT EXISTS (
                SELECT
                FROM events AS start
                WHERE start.session_id = $1
                    AND start.topic = 'agent-events'
                    AND start.type = 'turn_started'
                    AND start.body ->> 'message_id' = events.body ->> 'message_id'
                    AND start.turn_id = events.turn_id
                    AND start."offset" < events."offset"
            )
        )
    ORDER BY "offset"
    LIMIT $3
)
SELECT
    begun."offset",
    begun.turn_id,
    begun.body ->> 'message_id' AS message_id,
    begun.body ->> 'agent' AS agent,
    CASE WHEN begun.type = 'turn_started' THEN begun.at END AS started_at,
    ended.at AS ended_at,
    ended.type AS ended_type,
    ended.body #>> '{error,code}' AS error,
    calls.model_calls,
    calls.input_tokens,
    calls.output_tokens,
    calls.cost_micros,
    tools.tool_calls
FROM begun
LEFT JOIN LATERAL (
    SELECT e.at, e.type, e.body, e."offset"
    FROM events AS e
    WHERE e.session_id = $1
        AND e.topic = 'agent-events'
        AND e.type IN ('turn_completed', 'turn_failed', 'turn_cancelled')
        AND e.body ->> 'message_id' = begun.body ->> 'message_id'
        AND e.turn_id = begun.turn_id
        AND e."offset" >= begun."offset"
    ORDER BY e."offset"
    LIMIT 1
) AS ended ON true
CROSS JOIN LATERAL (
    SELECT
        count(*) AS model_calls,
        coalesce(sum(c.input_tokens + c.cache_read_tokens + c.cache_write_tokens), 0)::bigint AS input_tokens,
        coalesce(sum(c.output_tokens), 0)::bigint AS output_tokens,
        coalesce(sum(c.cost_micros), 0)::bigint AS cost_micros
    FROM model_calls AS c
    WHERE c.session_id = $1
        AND c.turn_id = begun.turn_id
        AND c.at >= begun.at - interval '1 minute'
        AND c.at <= coalesce(ended.at + interval '1 minute', 'infinity')
) AS calls
CROSS JOIN LATERAL (
    SELECT count(DISTINCT t.body ->> 'call_id') AS tool_calls
    FROM events AS t
    WHERE t.session_id = $1
        AND t.topic = 'agent-events'
        AND t.type = 'tool_called'
        AND t.turn_id = begun.turn_id
        AND t."offset" > begun."offset"
        AND t."offset" <= coalesce(ended."offset", 9223372036854775807)
) AS tools
ORDER BY begun."offset";
