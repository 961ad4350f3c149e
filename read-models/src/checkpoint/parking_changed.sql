SELECT parking <> $5 AS "changed!"
FROM annals.checkpoints
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
