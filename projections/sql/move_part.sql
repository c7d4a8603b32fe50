-- A partition of the shadow becomes one of the live table.
ALTER TABLE "{shadow}".{table} DETACH PARTITION "{shadow}".{part};
ALTER TABLE "{shadow}".{part} SET SCHEMA "{live}";
ALTER TABLE "{live}".{table} ATTACH PARTITION "{live}".{part} {bound};
