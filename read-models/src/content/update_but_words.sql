-- Words (title, body, summary, language), site and kind are as they were. Arrays and JSON travel as text.
UPDATE content SET
    status = new.status, slug = new.slug, path = new.path, aliases = new.aliases::text[],
    tags = new.tags::text[], featured = new.featured, metadata = new.metadata::jsonb,
    published_at = new.published_at, scheduled_at = new.scheduled_at, updated_at = new.updated_at,
    updated_by = new.updated_by, version = new.version
FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[],
        $9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::uuid[], $14::bigint[]
) AS new (
    tenant, content, status, slug, path, aliases, tags, featured, metadata, published_at, scheduled_at,
    updated_at, updated_by, version
)
WHERE content.tenant = new.tenant AND content.content = new.content
