-- Makes the part of `events` for the month that begins at $1.
SELECT create_events_month($1::timestamptz);
