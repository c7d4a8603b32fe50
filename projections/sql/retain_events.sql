-- Drops the months of events that ended before $1.
SELECT drop_events_months($1::timestamptz);
