-- Lets every generation pass over the first parked event of an aggregate; what is known of it is kept.
INSERT INTO annals.skipped
    (projection, topic, "partition", "offset", event_index, tenant, subject, event_type, reason, skipped_by, why)
SELECT p.projection, p.topic, p."partition", p."offset", p.event_index, p.tenant, p.subject, p.event_type, a.reason, $5, $6
FROM annals.parked p
JOIN annals.parked_aggregates a USING (projection, generation, tenant, subject)
WHERE p.projection = $1 AND p.generation = $2 AND p.tenant = $3 AND p.subject = $4
ORDER BY p."offset", p.event_index
LIMIT 1
ON CONFLICT DO NOTHING
