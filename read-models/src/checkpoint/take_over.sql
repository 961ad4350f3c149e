-- A new fence; whatever stopped the fold is tried again.
UPDATE annals.checkpoints
SET fence = fence + 1, stopped = NULL, updated_at = now()
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
RETURNING next_offset, epoch, seq, hash, fence, parking
