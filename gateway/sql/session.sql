-- What is stored of the session $1: its first and last message, how many there are (10,000 at most are counted), and the
-- last agent event.
WITH counted AS (
    SELECT FROM events WHERE session_id = $1 AND type = 'message_accepted' LIMIT 10000
),
first_message AS (
    SELECT body
    FROM events
    WHERE session_id = $1 AND topic = 'session-log' AND type = 'message_accepted'
    ORDER BY "offset"
    LIMIT 1
),
last_message AS (
    SELECT at, body
    FROM events
    WHERE session_id = $1 AND topic = 'session-log' AND type = 'message_accepted'
    ORDER BY "offset" DESC
    LIMIT 1
),
last_event AS (
    SELECT at, type, turn_id, body
    FROM events
    WHERE session_id = $1 AND topic = 'agent-events'
    ORDER BY "offset" DESC
    LIMIT 1
)
SELECT
    (SELECT count(*) FROM counted) AS messages,
    jsonb_path_query_first(first_message.body, '$.content[*] ? (@.type == "text").text') #>> '{}' AS first_text,
    jsonb_path_query_first(last_message.body, '$.content[*] ? (@.type == "text").text') #>> '{}' AS last_text,
    coalesce(last_message.body ->> 'user_id', first_message.body ->> 'user_id') AS user_id,
    coalesce(last_message.body ->> 'tenant', first_message.body ->> 'tenant') AS tenant,
    greatest(last_message.at, last_event.at) AS last_at,
    last_event.type AS last_type,
    last_event.turn_id,
    last_event.body ->> 'agent' AS agent,
    last_event.body ->> 'message_id' AS message_id
FROM (SELECT) AS one
LEFT JOIN first_message ON true
LEFT JOIN last_message ON true
LEFT JOIN last_event ON true;
