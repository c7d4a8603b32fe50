-- How each of the records $1 ended, which were sent again as the commands $3 of the sessions $2: as another dead letter,
-- or with the end of a turn; a record that is neither is left out.
SELECT
    asked.record,
    letter.id AS letter,
    last_event.type AS end_type,
    last_event.turn_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (record, session_id, command_id)
LEFT JOIN dead_letters AS letter ON letter.id = asked.record
LEFT JOIN LATERAL (
    SELECT type, turn_id
    FROM events
    WHERE events.session_id = asked.session_id
        AND body ->> 'message_id' = asked.command_id
        AND topic = 'agent-events'
        AND type IN ('turn_started', 'turn_completed', 'turn_failed', 'turn_cancelled')
    ORDER BY "offset" DESC
    LIMIT 1
) AS last_event ON true;
