-- An empty table with the columns, keys and indexes of the live one.
CREATE TABLE "{shadow}".{table} (LIKE "{live}".{table} INCLUDING ALL) PARTITION BY {by};
