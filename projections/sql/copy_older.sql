-- Takes over the rows of records that the topics no longer have.
INSERT INTO "{shadow}".{table}
SELECT live.*
FROM "{live}".{table} AS live
JOIN "{shadow}".spans AS span ON span.topic = live.topic AND span.partition = live.partition
WHERE live."offset" < span."begin"
ON CONFLICT DO NOTHING;
