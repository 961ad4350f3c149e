-- Told to listeners only when it moved: they know then how far behind the fold is. "read" says that this end
-- was asked of the log just now; one that comes with a batch may be old.
WITH before AS (
    SELECT log_end FROM annals.checkpoints
    WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
    FOR UPDATE
), seen AS (
    UPDATE annals.checkpoints
    SET log_end = greatest($6::bigint, next_offset), updated_at = now(), end_read_at = now()
    WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
    RETURNING projection, generation, topic, "partition", next_offset, log_end
)
SELECT pg_notify('annals_checkpoint',
                 concat_ws(' ', projection, generation, topic, "partition", next_offset, seen.log_end, 'read'))
FROM seen, before
WHERE seen.log_end <> before.log_end
