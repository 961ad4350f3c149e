UPDATE annals.checkpoints
SET stopped = $6, updated_at = now()
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
