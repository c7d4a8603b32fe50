-- When a session's agent event with this `seq` was: the newest one, as one that was forgotten counts from 1 again.
SELECT at
FROM events
WHERE session_id = $1 AND topic = 'agent-events' AND id = $1 || '/' || $2::bigint::text
ORDER BY at DESC
LIMIT 1
