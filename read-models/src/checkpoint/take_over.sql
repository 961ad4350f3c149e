-- A new fence; whatever stopped the fold is tried again.
UPDATE annals.checkpoints c
SET fence = c.fence + 1, stopped = NULL, updated_at = now()
FROM annals.generations g
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND c."partition" = $4
  AND g.projection = c.projection AND g.generation = c.generation
RETURNING c.next_offset, c.epoch, c.seq, c.hash, c.fence, c.parking,
          coalesce(c.last_time, g.created_at) AS "since!", c.cut
