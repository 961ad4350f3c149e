-- Checkpoints of live generations, and how long ago the log's end was asked for, in seconds.
SELECT c.projection, c.generation, c."partition", c.next_offset, c.log_end, c.filled, c.parking,
       extract(epoch FROM clock_timestamp() - c.end_read_at)::double precision AS "age!"
FROM annals.checkpoints c
JOIN annals.live l USING (projection, generation)
