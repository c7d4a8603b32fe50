-- Removes calls and turns from before $1.
WITH calls AS (DELETE FROM model_calls WHERE at < $1)
DELETE FROM turns WHERE at < $1;
