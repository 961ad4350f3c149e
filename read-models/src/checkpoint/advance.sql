-- Moves only from the position and under the fence that the writer believes in; told to listeners at commit.
WITH moved AS (
    UPDATE annals.checkpoints
    SET next_offset = $7::bigint, epoch = $8, seq = $9, hash = $10,
        log_end = greatest(log_end, $11::bigint, $7::bigint), last_time = coalesce($12, last_time), updated_at = now(),
        -- Who reads may know less of the end than who told of it last.
        filled = filled OR $7::bigint >= greatest(log_end, $11::bigint)
    WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
      AND fence = $5 AND next_offset = $6
    RETURNING projection, generation, topic, "partition", next_offset, log_end, filled
)
SELECT pg_notify('annals_checkpoint',
                 concat_ws(' ', projection, generation, topic, "partition", next_offset, log_end, filled)) AS told
FROM moved
