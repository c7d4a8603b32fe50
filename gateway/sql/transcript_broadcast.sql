-- The broadcast whose replies the session $1 gathers.
SELECT body::text AS body
FROM events
WHERE session_id = $1
    AND topic = 'session-log'
    AND type = 'broadcast_accepted'
ORDER BY "offset"
LIMIT 1;
