-- The newest agent event of a session that is stored: its `seq` and its time.
SELECT substring(id FROM length($1) + 2)::bigint AS seq, at
FROM events
WHERE session_id = $1 AND topic = 'agent-events'
ORDER BY at DESC, seq DESC
LIMIT 1
