-- Only for the holder of the fence, and only up to what the checkpoint has.
INSERT INTO annals.fold_snapshots (projection, generation, topic, "partition", next_offset, state)
SELECT projection, generation, topic, "partition", $6::bigint, $7::bytea
FROM annals.checkpoints
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
  AND fence = $5 AND next_offset >= $6
ON CONFLICT (projection, generation, topic, "partition")
DO UPDATE SET next_offset = excluded.next_offset, state = excluded.state, taken_at = now()
