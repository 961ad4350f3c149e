-- Site and kind never change. Arrays and JSON travel as text.
UPDATE content SET
    status = new.status, title = new.title, slug = new.slug, path = new.path,
    aliases = new.aliases::text[], body = new.body, summary = new.summary, tags = new.tags::text[],
    featured = new.featured, language = new.language, metadata = new.metadata::jsonb,
    published_at = new.published_at, scheduled_at = new.scheduled_at, updated_at = new.updated_at,
    updated_by = new.updated_by, version = new.version
FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::boolean[], $12::text[], $13::text[], $14::timestamptz[],
        $15::timestamptz[], $16::timestamptz[], $17::uuid[], $18::bigint[]
) AS new (
    tenant, content, status, title, slug, path, aliases, body, summary, tags, featured, language, metadata,
    published_at, scheduled_at, updated_at, updated_by, version
)
WHERE content.tenant = new.tenant AND content.content = new.content
