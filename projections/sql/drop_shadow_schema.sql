-- The end of a rebuild.
DROP SCHEMA "{shadow}" CASCADE;
