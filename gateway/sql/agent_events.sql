-- Agent events of a session from one `seq` to another, of the session's last life: one that was forgotten counts from 1.
WITH life AS (
    SELECT coalesce(max(at) - interval '1 minute', '-infinity') AS began
    FROM events
    WHERE session_id = $1 AND topic = 'agent-events' AND id = $1 || '/1'
),
of_session AS (
    SELECT substring(id FROM length($1) + 2)::bigint AS seq, at, body
    FROM events
    WHERE session_id = $1 AND topic = 'agent-events' AND at >= (SELECT began FROM life)
)
SELECT DISTINCT ON (seq) seq, body::text AS body
FROM of_session
WHERE seq BETWEEN $2 AND $3
ORDER BY seq, at DESC
LIMIT $4
