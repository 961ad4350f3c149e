UPDATE annals.checkpoints
SET released = true
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND fence = $5
