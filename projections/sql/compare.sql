-- How the rows differ of those records that both tables reflect.
WITH
old AS (
    SELECT live.*
    FROM "{live}".{table} AS live
    JOIN "{shadow}".spans AS span ON span.topic = live.topic AND span.partition = live.partition
    WHERE live."offset" < span.live
),
new AS (
    SELECT shadow.*
    FROM "{shadow}".{table} AS shadow
    JOIN "{shadow}".spans AS span ON span.topic = shadow.topic AND span.partition = shadow.partition
    WHERE shadow."offset" < span.live
)
SELECT
    (SELECT count(*) FROM (SELECT * FROM old INTERSECT SELECT * FROM new) AS same) AS same,
    (SELECT count(*) FROM (SELECT * FROM new EXCEPT SELECT * FROM old) AS added) AS added,
    (SELECT count(*) FROM (SELECT * FROM old EXCEPT SELECT * FROM new) AS removed) AS removed;
