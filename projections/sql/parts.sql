-- The partitions of the table $1, each with its bound, by name.
SELECT part.relname, pg_get_expr(part.relpartbound, part.oid)
FROM pg_inherits
JOIN pg_class AS part ON part.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = $1::text::regclass
ORDER BY part.relname;
