-- The keys $1 were last used at the times $2, unless another gateway saw them later.
UPDATE api_keys
SET last_used_at = used.at
FROM unnest($1::text[], $2::timestamptz[]) AS used (id, at)
WHERE api_keys.id = used.id AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < used.at);
