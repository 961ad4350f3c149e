SELECT p.projection, p.generation, p.tenant, p.subject, p."partition", p.since
FROM annals.parked_aggregates p
JOIN annals.live l USING (projection, generation)
