COPY content_versions (
    tenant, content, version, event, at, actor, changed, status, title, slug, body, summary, tags,
    featured, language, metadata, published_at, scheduled_at
) FROM STDIN (FORMAT binary)
