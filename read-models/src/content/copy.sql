COPY content (
    tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured,
    language, metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version
) FROM STDIN (FORMAT binary)
