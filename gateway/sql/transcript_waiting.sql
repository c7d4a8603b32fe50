-- Of the last 100 messages of the session $1, those that no agent event is about: they wait for the turn that runs.
WITH newest AS (
    SELECT "offset", body
    FROM events
    WHERE session_id = $1 AND topic = 'session-log' AND type = 'message_accepted'
    ORDER BY "offset" DESC
    LIMIT 100
)
SELECT newest.body::text AS body
FROM newest
-- Not as a join: each is looked up by its id, however many messages the session has.
WHERE (
    SELECT true
    FROM events AS about
    WHERE about.session_id = $1
        AND about.topic = 'agent-events'
        AND about.type IN ('turn_started', 'turn_completed', 'turn_failed', 'turn_cancelled')
        AND about.body ->> 'message_id' = newest.body ->> 'message_id'
    LIMIT 1
) IS NULL
ORDER BY newest."offset";
