SELECT tenant, subject
FROM annals.parked_aggregates
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
