-- What was consumed from the time $1 to before $2 per day, tenant, agent and model, as the view `usage` has it; of the
-- tenant $3 where one is given. Behind the day $4, tenant $5, agent $6 and model $7, $8 rows at most. Calls are summed by
-- turn first, so that each turn is looked up once.
WITH by_turn AS (
    SELECT
        (at AT TIME ZONE 'UTC')::date AS day,
        turn_id,
        model,
        min(at) AS at,
        count(*) AS calls,
        count(failure) AS failed_calls,
        sum(input_tokens) AS input_tokens,
        sum(cache_read_tokens) AS cache_read_tokens,
        sum(cache_write_tokens) AS cache_write_tokens,
        sum(output_tokens) AS output_tokens,
        sum(cost_micros) AS cost_micros
    FROM model_calls
    WHERE at >= $1 AND at < $2 AND (at AT TIME ZONE 'UTC')::date >= $4
    GROUP BY 1, 2, 3
),
by_agent AS (
    SELECT
        by_turn.day,
        turn.tenant,
        turn.agent,
        by_turn.model,
        sum(by_turn.calls)::bigint AS calls,
        sum(by_turn.failed_calls)::bigint AS failed_calls,
        sum(by_turn.input_tokens)::bigint AS input_tokens,
        sum(by_turn.cache_read_tokens)::bigint AS cache_read_tokens,
        sum(by_turn.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(by_turn.output_tokens)::bigint AS output_tokens,
        sum(by_turn.cost_micros)::bigint AS cost_micros
    FROM by_turn
    LEFT JOIN LATERAL (
        SELECT turns.tenant, turns.agent
        FROM turns
        WHERE turns.turn_id = by_turn.turn_id
        ORDER BY turns.at <= by_turn.at DESC, abs(extract(epoch FROM by_turn.at - turns.at))
        LIMIT 1
    ) AS turn ON true
    WHERE $3::text IS NULL OR turn.tenant = $3
    GROUP BY 1, 2, 3, 4
)
SELECT *
FROM by_agent
WHERE (day, coalesce(tenant, ''), coalesce(agent, ''), model) > ($4, $5::text, $6::text, $7::text)
ORDER BY day, coalesce(tenant, ''), coalesce(agent, ''), model
LIMIT $8;
