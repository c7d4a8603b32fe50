-- When the dead letter with the id $1, which was written at $2, was sent again, as which record and command; the first 50.
SELECT
    at,
    session_id,
    details ->> 'sent_partition' AS sent_partition,
    details ->> 'sent_offset' AS sent_offset,
    details ->> 'command_id' AS command_id,
    coalesce(details ->> 'edited', 'false') = 'true' AS edited
FROM audit_log
WHERE event_type = 'dead_letter_replayed'
    AND outcome = 'success'
    AND at >= $2::timestamptz - interval '5 minutes'
    AND details ->> 'dead_letter' = $1
ORDER BY at, id
LIMIT 50;
