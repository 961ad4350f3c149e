-- Every generation with what is known of it; positions and ends are summed over its partitions. One that is cut ends
-- at its cut.
SELECT
    g.projection,
    g.generation,
    g.state,
    g.fold_hash,
    g.created_at,
    g.kept_since,
    coalesce(l.shown = g.generation, false) AS "shown!",
    (SELECT coalesce(sum(c.next_offset), 0)::bigint FROM annals.checkpoints c
     WHERE c.projection = g.projection AND c.generation = g.generation) AS "position!",
    (SELECT coalesce(sum(coalesce(c.cut, greatest(c.log_end, c.next_offset))), 0)::bigint FROM annals.checkpoints c
     WHERE c.projection = g.projection AND c.generation = g.generation) AS "log_end!",
    (SELECT coalesce(bool_and(c.filled), false) FROM annals.checkpoints c
     WHERE c.projection = g.projection AND c.generation = g.generation) AS "filled!",
    (SELECT count(*) FROM annals.parked p
     WHERE p.projection = g.projection AND p.generation = g.generation) AS "parked!",
    r.why AS "why?",
    r.rate AS "rate?",
    coalesce(r.paused, false) AS "paused!",
    r.failure AS "failure?",
    f.name AS "name?",
    f.until AS "until?",
    f.until_time AS "until_time?",
    ARRAY(SELECT c.cut FROM annals.checkpoints c
          WHERE c.projection = g.projection AND c.generation = g.generation AND c.cut IS NOT NULL
          ORDER BY c."partition") AS "cuts!",
    coalesce(v.compared, 0) AS "compared!",
    greatest(v.differing, v.whole_differing, 0) AS "differing!",
    v.looked_at AS "looked_at?",
    v.whole_compared AS "whole_compared?",
    v.whole_at AS "whole_at?"
FROM annals.generations g
LEFT JOIN annals.live l USING (projection, generation)
LEFT JOIN annals.rebuilds r USING (projection, generation)
LEFT JOIN annals.frozen f USING (projection, generation)
LEFT JOIN annals.verified v USING (projection, generation)
WHERE $1::text IS NULL OR g.projection = $1
ORDER BY g.projection, g.generation
