-- Generations of a projection, the live one first, then those that this fold made, the latest first; of each how many
-- checkpoints it has and how many of the expected tables are gone.
SELECT
    g.generation,
    g.fold_hash,
    g.state,
    (SELECT count(*) FROM annals.checkpoints c
     WHERE c.projection = g.projection AND c.generation = g.generation) AS "checkpoints!",
    (SELECT count(*) FROM unnest($2::text[]) AS expected (name)
     WHERE to_regclass(format('%I.%I', g.projection || '_' || g.generation, expected.name)) IS NULL) AS "missing!"
FROM annals.generations g
WHERE g.projection = $1
ORDER BY g.state = 'live' DESC, g.generation DESC
