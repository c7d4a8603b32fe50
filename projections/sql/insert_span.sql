-- Notes what a partition of a topic holds.
INSERT INTO "{shadow}".spans (topic, partition, "begin", "end", live) VALUES ($1, $2, $3, $4, $5);
