-- Arrays and JSON travel as text.
INSERT INTO content (
    tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured,
    language, metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version
)
SELECT
    tenant, content, site, kind, status, title, slug, path, aliases::text[], body, summary, tags::text[],
    featured, language, metadata::jsonb, published_at, scheduled_at, created_at, created_by, updated_at,
    updated_by, version
FROM unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::boolean[], $14::text[], $15::text[],
        $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::uuid[], $20::timestamptz[],
        $21::uuid[], $22::bigint[]
) AS new (
    tenant, content, site, kind, status, title, slug, path, aliases, body, summary, tags, featured,
    language, metadata, published_at, scheduled_at, created_at, created_by, updated_at, updated_by, version
)
