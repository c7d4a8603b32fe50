-- Removes letters from before $1.
DELETE FROM dead_letters WHERE at < $1;
