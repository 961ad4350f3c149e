-- The aggregate is parked by its first event that has a reason; that one and all later ones wait behind it.
WITH events AS (
    SELECT tenant, subject, "offset", event_index, event_type, reason
    FROM unnest($5::uuid[], $6::text[], $7::bigint[], $8::integer[], $9::text[], $10::text[])
        AS e (tenant, subject, "offset", event_index, event_type, reason)
), aggregates AS (
    INSERT INTO annals.parked_aggregates
        (projection, generation, tenant, subject, topic, "partition", since, reason)
    SELECT DISTINCT ON (tenant, subject) $1, $2::integer, tenant, subject, $3, $4::integer, "offset", reason
    FROM events
    WHERE reason IS NOT NULL
    ORDER BY tenant, subject, "offset", event_index
    ON CONFLICT DO NOTHING
), waiting AS (
    INSERT INTO annals.parked
        (projection, generation, topic, "partition", "offset", event_index, tenant, subject, event_type)
    SELECT $1, $2, $3, $4, "offset", event_index, tenant, subject, event_type
    FROM events
    ON CONFLICT DO NOTHING
)
SELECT pg_notify('annals_parked', $1)
