-- A generation before its first event, with a checkpoint for each partition.
WITH begun AS (
    INSERT INTO annals.generations (projection, generation, state, fold_hash)
    VALUES ($1, $2, $6, $3)
    RETURNING projection, generation
)
INSERT INTO annals.checkpoints (projection, generation, topic, "partition")
SELECT projection, generation, $4, n FROM begun, generate_series(0, $5::integer - 1) AS n
