-- Every table has the place of the record that a row was made of: "topic" (without the cluster's prefix), "partition"
-- and "offset". Each is partitioned, those that are not by month into a single part, so that a rebuild can put new
-- parts in place of the old ones while views, privileges and the names of the tables stay.

-- Every agent event and every fact of the session log.
CREATE TABLE events (
    topic text NOT NULL,
    id text NOT NULL,
    at timestamptz NOT NULL,
    type text NOT NULL,
    session_id text NOT NULL,
    turn_id text,
    body jsonb NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (topic, id, at)
) PARTITION BY RANGE (at);
CREATE INDEX events_by_session ON events (session_id, at);
CREATE INDEX events_by_type ON events (type, at);

-- Each turn that started, and for whom.
CREATE TABLE turns (
    turn_id text NOT NULL,
    at timestamptz NOT NULL,
    session_id text NOT NULL,
    agent text NOT NULL,
    tenant text,
    user_id text,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (turn_id, at)
) PARTITION BY HASH (turn_id);
CREATE TABLE turns_all PARTITION OF turns FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE INDEX turns_by_time ON turns (at);

-- Each model call that ended, with what it consumed.
CREATE TABLE model_calls (
    call_id text NOT NULL,
    turn_id text NOT NULL,
    at timestamptz NOT NULL,
    session_id text NOT NULL,
    model text NOT NULL,
    input_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_micros bigint NOT NULL,
    attempts integer NOT NULL,
    duration_ms bigint NOT NULL,
    failure text,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (partition, "offset", at)
) PARTITION BY HASH (partition);
CREATE TABLE model_calls_all PARTITION OF model_calls FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE INDEX model_calls_by_time ON model_calls (at);
CREATE INDEX model_calls_by_session ON model_calls (session_id, at);

-- Tokens and cost per day (UTC), tenant, agent and model. The agent of a call is NULL until its turn's start was read.
-- A turn's number comes again in a session that was forgotten: a call belongs to the last one that started before it.
CREATE VIEW usage AS
SELECT
    (model_calls.at AT TIME ZONE 'UTC')::date AS day,
    turn.tenant,
    turn.agent,
    model_calls.model,
    count(*) AS calls,
    count(model_calls.failure) AS failed_calls,
    sum(model_calls.input_tokens)::bigint AS input_tokens,
    sum(model_calls.cache_read_tokens)::bigint AS cache_read_tokens,
    sum(model_calls.cache_write_tokens)::bigint AS cache_write_tokens,
    sum(model_calls.output_tokens)::bigint AS output_tokens,
    sum(model_calls.cost_micros)::bigint AS cost_micros
FROM model_calls
LEFT JOIN LATERAL (
    SELECT turns.tenant, turns.agent
    FROM turns
    WHERE turns.turn_id = model_calls.turn_id
    -- Clocks of two machines differ a little: where none is before the call, the nearest one is its turn.
    ORDER BY turns.at <= model_calls.at DESC, abs(extract(epoch FROM model_calls.at - turns.at))
    LIMIT 1
) AS turn ON true
GROUP BY 1, 2, 3, 4;

-- Records that could not be processed.
CREATE TABLE dead_letters (
    id text NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    processor text NOT NULL,
    cause text NOT NULL,
    error text NOT NULL,
    session_id text,
    record_at timestamptz,
    record_key bytea,
    record_value bytea,
    record_headers jsonb NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL
) PARTITION BY HASH (id);
CREATE TABLE dead_letters_all PARTITION OF dead_letters FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE INDEX dead_letters_by_time ON dead_letters (at);
CREATE INDEX dead_letters_by_session ON dead_letters (session_id, at);

-- Makes the part of `events` for the month (UTC) that begins at `month`, where there is none.
CREATE FUNCTION create_events_month(month timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part text := 'events_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    -- Two writers that come to a new month at once make it one after the other.
    PERFORM pg_advisory_xact_lock(hashtext('create_events_month'));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        part,
        month,
        (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
    );
END
$$;

-- Drops the parts of `events` whose month (UTC) ended before `before`.
CREATE FUNCTION drop_events_months(before timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT pg_class.oid
        FROM pg_inherits
        JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'events'::regclass
        AND to_date(right(pg_class.relname, 7), 'YYYY_MM') < date_trunc('month', before AT TIME ZONE 'UTC')
    LOOP
        EXECUTE format('DROP TABLE %s', part);
    END LOOP;
END
$$;
