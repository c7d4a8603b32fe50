-- Takes over the rows of records that came after those that were read.
INSERT INTO "{shadow}".{table}
SELECT live.*
FROM "{live}".{table} AS live
LEFT JOIN "{shadow}".spans AS span ON span.topic = live.topic AND span.partition = live.partition
WHERE span."end" IS NULL OR live."offset" >= span."end"
ON CONFLICT DO NOTHING;
