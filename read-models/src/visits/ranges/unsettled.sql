SELECT insert_id AS "insert_id!", attempt, parts
FROM annals.ranges
WHERE projection = $1 AND generation = $2
ORDER BY insert_id
