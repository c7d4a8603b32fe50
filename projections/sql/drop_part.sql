-- The old rows of a partition.
DROP TABLE "{live}".{part};
