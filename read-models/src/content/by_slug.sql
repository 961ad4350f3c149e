-- Among archived pieces, which have given the slug up, the one that had it last.
SELECT
    tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured,
    language, metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version
FROM content
WHERE tenant = $1 AND site = $2 AND kind = $3 AND slug = $4
ORDER BY status = 'archived', updated_at DESC
LIMIT 1
