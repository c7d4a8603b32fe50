-- What the model said in the session $1 at the times $2.
SELECT body::text AS body
FROM events
WHERE session_id = $1
    AND topic = 'session-log'
    AND type = 'model_completed'
    AND at = ANY ($2::timestamptz[])
ORDER BY "offset"
LIMIT 1000;
