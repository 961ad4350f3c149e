-- The live generation, how many checkpoints it has, and how many of the expected tables are gone.
SELECT
    g.generation,
    g.fold_hash,
    (SELECT count(*) FROM annals.checkpoints c
     WHERE c.projection = g.projection AND c.generation = g.generation) AS "checkpoints!",
    (SELECT count(*) FROM unnest($2::text[]) AS expected (name)
     WHERE to_regclass(format('%I.%I', g.projection || '_' || g.generation, expected.name)) IS NULL) AS "missing!"
FROM annals.live l
JOIN annals.generations g USING (projection, generation)
WHERE l.projection = $1
