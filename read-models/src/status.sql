WITH parked AS (
    SELECT projection, generation, topic, "partition", count(*) AS events
    FROM annals.parked
    GROUP BY projection, generation, topic, "partition"
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
    -- Before its first event the lag is counted from the generation's making.
    CASE WHEN c.log_end > c.next_offset
         THEN greatest(extract(epoch FROM clock_timestamp() - coalesce(c.last_time, g.created_at)), 0)
         ELSE 0 END::double precision AS "lag_seconds!",
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
LEFT JOIN parked USING (projection, generation, topic, "partition")
LEFT JOIN annals.verified v USING (projection, generation)
ORDER BY c.projection, c.generation, c.topic, c."partition"
