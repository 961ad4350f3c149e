-- A new fence, above what is known of it elsewhere ($5), by 1 or by anything up to $6; whatever stopped the fold is
-- tried again.
UPDATE annals.checkpoints c
SET fence = greatest(c.fence, $5::bigint) + 1 + floor(random() * $6::bigint)::bigint, stopped = NULL, released = false,
    updated_at = now()
FROM annals.generations g
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND c."partition" = $4
  AND g.projection = c.projection AND g.generation = c.generation
RETURNING c.next_offset, c.epoch, c.seq, c.hash, c.fence, c.parking,
          coalesce(c.last_time, g.created_at) AS "since!", c.cut
