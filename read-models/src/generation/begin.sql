-- A generation that is live from its first event on, with a checkpoint for each partition; tells everyone.
WITH begun AS (
    INSERT INTO annals.generations (projection, generation, state, fold_hash)
    VALUES ($1, $2, 'live', $3)
    RETURNING projection, generation
), shown AS (
    INSERT INTO annals.live (projection, generation)
    SELECT projection, generation FROM begun
    RETURNING projection, generation
), started AS (
    INSERT INTO annals.checkpoints (projection, generation, topic, "partition")
    SELECT projection, generation, $4, n FROM begun, generate_series(0, $5::integer - 1) AS n
)
SELECT pg_notify('annals_live', shown.projection || ' ' || shown.generation) FROM shown
