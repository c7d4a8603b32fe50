-- Acts, the newest first, $11 at most: of the tenant $1, event type $2, user $3, session $4, address $5, outcome $6, from
-- the time $7 to before $8, each where it is given; behind the time $9 and id $10. What stands in an index is cut, as a
-- text from outside can be longer than an entry of an index.
SELECT
    id,
    at,
    event_type,
    user_id,
    session_id,
    tenant,
    host(ip_address) AS ip_address,
    key_id,
    details::text AS details,
    outcome,
    outcome_details
FROM audit_log
WHERE ($1::text IS NULL OR "left"(tenant, 100) = "left"($1, 100) AND tenant = $1)
    AND ($2::text IS NULL OR event_type = $2)
    AND ($3::text IS NULL OR "left"(user_id, 100) = "left"($3, 100) AND user_id = $3)
    AND ($4::text IS NULL OR "left"(session_id, 200) = "left"($4, 200) AND session_id = $4)
    AND ($5::text IS NULL OR ip_address = $5::inet)
    AND ($6::text IS NULL OR outcome = $6)
    AND ($7::timestamptz IS NULL OR at >= $7)
    AND ($8::timestamptz IS NULL OR at < $8)
    AND (at, id) < ($9, $10)
ORDER BY at DESC, id DESC
LIMIT $11;
