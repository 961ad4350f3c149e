WITH parked AS (
    SELECT projection, generation, topic, "partition", count(*) AS events
    FROM annals.parked
    GROUP BY projection, generation, topic, "partition"
), heard AS (
    -- Whoever fills a partition says something every second; what is frozen, paused, or still to be cut is not filled.
    SELECT c.projection, c.generation, c.topic, c."partition",
           CASE WHEN g.state = 'frozen' OR r.paused OR f.until_time IS NOT NULL THEN 0
                ELSE greatest(extract(epoch FROM clock_timestamp() - c.updated_at), 0)
           END::double precision AS silent
    FROM annals.checkpoints c
    JOIN annals.generations g USING (projection, generation)
    LEFT JOIN annals.rebuilds r USING (projection, generation)
    LEFT JOIN annals.frozen f USING (projection, generation)
)
SELECT
    c.projection,
    c.generation,
    g.state,
    c.topic,
    c."partition",
    c.next_offset,
    c.log_end,
    greatest(c.log_end - c.next_offset, 0) AS "lag_events!",
    -- Before its first event the lag is counted from the generation's making; while nobody says where the log ends, at
    -- least from when somebody did.
    greatest(CASE WHEN c.log_end > c.next_offset
                  THEN extract(epoch FROM clock_timestamp() - coalesce(c.last_time, g.created_at)) ELSE 0 END,
             CASE WHEN heard.silent > 5 THEN heard.silent ELSE 0 END, 0)::double precision AS "lag_seconds!",
    heard.silent AS "silent_seconds!",
    c.last_time,
    coalesce(parked.events, 0) AS "parked!",
    c.updated_at,
    c.stopped,
    greatest(v.differing, v.whole_differing, 0) AS "differing!",
    v.looked_at AS "looked_at?",
    v.whole_compared AS "whole_compared?",
    v.whole_at AS "whole_at?"
FROM annals.checkpoints c
JOIN annals.generations g USING (projection, generation)
JOIN heard USING (projection, generation, topic, "partition")
LEFT JOIN parked USING (projection, generation, topic, "partition")
LEFT JOIN annals.verified v USING (projection, generation)
ORDER BY c.projection, c.generation, c.topic, c."partition"
