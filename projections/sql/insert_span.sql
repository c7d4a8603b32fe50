-- Notes what a partition of a topic holds, or that it has lost its oldest records since.
INSERT INTO "{shadow}".spans (topic, partition, "begin", "end", live)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (topic, partition) DO UPDATE SET "begin" = excluded."begin";
