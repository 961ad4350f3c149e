-- Every field as the latest version up to the one asked for has set it; the first version sets all.
WITH past AS NOT MATERIALIZED (
    SELECT * FROM content_versions
    WHERE tenant = $1 AND content = $2 AND version <= $3
)
SELECT
    content.content, content.site, content.kind,
    at_version.version, at_version.event, at_version.at, at_version.actor, at_version.changed, at_version.status,
    (SELECT v.title FROM past v WHERE v.changed @> ARRAY['title'] ORDER BY v.version DESC LIMIT 1) AS "title!",
    (SELECT v.slug FROM past v WHERE v.changed @> ARRAY['slug'] ORDER BY v.version DESC LIMIT 1) AS "slug!",
    (SELECT v.body FROM past v WHERE v.changed @> ARRAY['body'] ORDER BY v.version DESC LIMIT 1) AS "body!",
    (SELECT v.summary FROM past v WHERE v.changed @> ARRAY['summary'] ORDER BY v.version DESC LIMIT 1) AS "summary?",
    (SELECT v.tags FROM past v WHERE v.changed @> ARRAY['tags'] ORDER BY v.version DESC LIMIT 1) AS "tags!",
    (SELECT v.featured FROM past v WHERE v.changed @> ARRAY['featured'] ORDER BY v.version DESC LIMIT 1) AS "featured!",
    (SELECT v.language FROM past v WHERE v.changed @> ARRAY['language'] ORDER BY v.version DESC LIMIT 1) AS "language?",
    (SELECT v.metadata FROM past v WHERE v.changed @> ARRAY['metadata'] ORDER BY v.version DESC LIMIT 1) AS "metadata!",
    (SELECT v.published_at FROM past v WHERE v.changed @> ARRAY['published_at'] ORDER BY v.version DESC LIMIT 1) AS "published_at?",
    (SELECT v.scheduled_at FROM past v WHERE v.changed @> ARRAY['scheduled_at'] ORDER BY v.version DESC LIMIT 1) AS "scheduled_at?"
FROM content_versions at_version
JOIN content USING (tenant, content)
WHERE at_version.tenant = $1 AND at_version.content = $2 AND at_version.version = $3
