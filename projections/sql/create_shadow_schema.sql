-- A place for the tables of a rebuild, without what one that was broken off left behind. `spans` has the offsets that a
-- rebuild reads, from "begin" to before "end", and how far the live tables reflect them.
DROP SCHEMA IF EXISTS "{shadow}" CASCADE;
CREATE SCHEMA "{shadow}";
CREATE TABLE "{shadow}".spans (
    topic text,
    partition integer,
    "begin" bigint NOT NULL,
    "end" bigint NOT NULL,
    live bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
