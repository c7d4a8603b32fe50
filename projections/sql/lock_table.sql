-- Nobody reads or writes the table until the new partitions are in place: a moment, however large they are.
LOCK TABLE "{live}".{table} IN ACCESS EXCLUSIVE MODE;
