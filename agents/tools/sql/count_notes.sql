-- How many notes the owner has.
SELECT count(*) FROM notes WHERE owner_sha256 = $1;
