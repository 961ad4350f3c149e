-- Rows that a batch of events touches.
SELECT
    tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured,
    language, metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version
FROM content
JOIN unnest($1::uuid[], $2::uuid[]) AS wanted (tenant, content) USING (tenant, content)
