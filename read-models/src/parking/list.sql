-- Parked aggregates of live generations, the latest first; of one tenant, or of all.
SELECT
    a.projection, a.generation, a.tenant, a.subject, a.topic, a."partition", a.since, a.reason, a.attempts,
    a.parked_at, a.tried_at,
    w.events AS "events!",
    f.event_index AS "event_index!",
    f.event_type AS "event_type!"
FROM annals.parked_aggregates a
JOIN annals.live l USING (projection, generation)
CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM annals.parked p
    WHERE p.projection = a.projection AND p.generation = a.generation AND p.tenant = a.tenant AND p.subject = a.subject
) w
CROSS JOIN LATERAL (
    SELECT p.event_index, p.event_type FROM annals.parked p
    WHERE p.projection = a.projection AND p.generation = a.generation AND p.tenant = a.tenant AND p.subject = a.subject
    ORDER BY p."offset", p.event_index
    LIMIT 1
) f
WHERE ($1::uuid IS NULL OR a.tenant = $1) AND ($2::text IS NULL OR a.projection = $2)
  AND ($3::text IS NULL OR a.subject = $3)
ORDER BY a.parked_at DESC, a.projection, a.tenant, a.subject
LIMIT $4 OFFSET $5
