-- Removes acts from before $1.
DELETE FROM audit_log WHERE at < $1;
