-- Agent events of the session $1 behind the offset $2, in their order: $3 at most, and fewer where they and the messages
-- of the turns that begin with them have more than $4 bytes, but at least one. An end without a beginning is that of a
-- message that was turned away or cancelled while it waited. `is_last`: there was no more.
WITH found AS (
    SELECT "offset", type, turn_id, body
    FROM events
    WHERE session_id = $1 AND topic = 'agent-events' AND "offset" > $2
    ORDER BY "offset"
    LIMIT $3
),
sized AS (
    SELECT
        found.*,
        octet_length(found.body::text) + CASE WHEN found.type = 'turn_started' THEN coalesce((
            SELECT octet_length(message.body::text)
            FROM events AS message
            WHERE message.session_id = $1
                AND message.topic = 'session-log'
                AND message.type = 'message_accepted'
                AND message.body ->> 'message_id' = found.body ->> 'message_id'
            LIMIT 1
        ), 0) ELSE 0 END AS bytes
    FROM found
),
measured AS (
    SELECT
        sized.*,
        sum(bytes) OVER (ORDER BY "offset") - bytes AS bytes_before,
        "offset" = max("offset") OVER () AS is_last
    FROM sized
)
SELECT
    "offset",
    turn_id,
    body::text AS body,
    is_last,
    type IN ('turn_completed', 'turn_failed', 'turn_cancelled') AND NOT EXISTS (
        SELECT
        FROM events AS start
        WHERE start.session_id = $1
            AND start.topic = 'agent-events'
            AND start.type = 'turn_started'
            AND start.body ->> 'message_id' = measured.body ->> 'message_id'
            AND start.turn_id = measured.turn_id
            AND start."offset" < measured."offset"
    ) AS never_started
FROM measured
WHERE bytes_before < $4
ORDER BY "offset";
