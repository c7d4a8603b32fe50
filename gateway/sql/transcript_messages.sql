-- The messages of the session $1 with the ids $2; one that was sent twice as it was first.
SELECT DISTINCT ON (body ->> 'message_id') body::text AS body
FROM events
WHERE session_id = $1
    AND topic = 'session-log'
    AND type = 'message_accepted'
    AND body ->> 'message_id' = ANY ($2::text[])
ORDER BY body ->> 'message_id', "offset"
LIMIT 201;
