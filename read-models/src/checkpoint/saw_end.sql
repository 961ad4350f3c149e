-- Told to listeners only when it moved, or the tables have all for the first time: they know then how far behind the
-- fold is. When it was asked for they read in the table, by the database's clock: a notification may be late, and does
-- not know. Gives what that clock shows.
-- (No lock in `before`: it would pass over a row that this statement has changed already.)
WITH before AS (
    SELECT log_end, filled FROM annals.checkpoints
    WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
), seen AS (
    UPDATE annals.checkpoints
    SET log_end = greatest($6::bigint, next_offset), updated_at = now(), end_read_at = least($7, now()),
        filled = filled OR next_offset >= $6::bigint
    WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
    RETURNING projection, generation, topic, "partition", next_offset, log_end, filled
), told AS MATERIALIZED (
    SELECT pg_notify('annals_checkpoint',
                     concat_ws(' ', projection, generation, topic, "partition", next_offset, seen.log_end, seen.filled)) AS told
    FROM seen, before
    WHERE seen.log_end <> before.log_end OR seen.filled <> before.filled
)
SELECT clock_timestamp() AS "now!"
FROM seen LEFT JOIN told ON true
