-- Whether anything was ever applied to this database.
SELECT to_regclass('headrace_migrations') IS NOT NULL;
