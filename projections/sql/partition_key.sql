-- What the table $1 is partitioned by.
SELECT pg_get_partkeydef($1::text::regclass);
