-- How many dead letters there are since the time $1; 100,000 at most are counted.
SELECT count(*) AS letters
FROM (SELECT FROM dead_letters WHERE at >= $1 LIMIT 100000) AS newest;
