SELECT state
FROM annals.fold_snapshots
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4 AND next_offset <= $5
