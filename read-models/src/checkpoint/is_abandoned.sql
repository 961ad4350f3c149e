SELECT released OR updated_at < now() - make_interval(secs => $5) AS "abandoned!"
FROM annals.checkpoints
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
