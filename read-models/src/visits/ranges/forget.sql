DELETE FROM annals.ranges
WHERE projection = $1 AND generation = $2 AND insert_id = ANY ($3)
