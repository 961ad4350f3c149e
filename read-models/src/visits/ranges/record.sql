INSERT INTO annals.ranges (projection, generation, attempt, parts, row_count, fingerprint, state)
VALUES ($1, $2, $3, $4, $5, $6, 'recorded')
RETURNING insert_id AS "insert_id!"
