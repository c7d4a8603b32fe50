-- A partition like one of the live table.
CREATE TABLE "{shadow}".{part} PARTITION OF "{shadow}".{table} {bound};
