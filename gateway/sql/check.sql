-- Whether the database answers, and has the table that lets anybody in.
SELECT count(*) FROM (SELECT FROM api_keys LIMIT 1) AS one;
