-- Who did what: people at the gateway and with the command, the pipeline, and what it could not process. A single part,
-- so that a record that is dead-lettered twice is found by its id, whatever its second letter's time is.
CREATE TABLE audit_log (
    id text NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    event_type text NOT NULL,
    user_id text,
    session_id text,
    tenant text,
    ip_address inet,
    key_id text,
    details jsonb NOT NULL,
    outcome text NOT NULL,
    outcome_details text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL
) PARTITION BY HASH (id);
CREATE TABLE audit_log_all PARTITION OF audit_log FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE INDEX audit_log_by_time ON audit_log (at, id);
CREATE INDEX audit_log_by_type ON audit_log (event_type, at, id);
CREATE INDEX audit_log_by_address ON audit_log (ip_address, at, id) WHERE ip_address IS NOT NULL;
CREATE INDEX audit_log_not_successful ON audit_log (outcome, at, id) WHERE outcome <> 'success';
-- What comes from outside may be longer than an entry of an index can be, and must not keep its act out of the log.
CREATE INDEX audit_log_by_user ON audit_log ("left"(user_id, 100), at, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_log_by_session ON audit_log ("left"(session_id, 200), at, id) WHERE session_id IS NOT NULL;
CREATE INDEX audit_log_by_tenant ON audit_log ("left"(tenant, 100), at, id) WHERE tenant IS NOT NULL;

-- What a gateway asks of the events: a session's records in their order, and what became of a message.
CREATE INDEX events_by_place ON events (session_id, topic, "offset");
CREATE INDEX events_by_message ON events (session_id, (body ->> 'message_id'))
WHERE type IN ('message_accepted', 'turn_started', 'turn_completed', 'turn_failed', 'turn_cancelled');
