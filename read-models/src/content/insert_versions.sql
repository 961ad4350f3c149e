-- Arrays and JSON travel as text.
INSERT INTO content_versions (
    tenant, content, version, event, at, actor, changed, status, title, slug, body, summary, tags,
    featured, language, metadata, published_at, scheduled_at, tenant_seq
)
SELECT
    tenant, content, version, event, at, actor, changed::text[], status, title, slug, body, summary,
    tags::text[], featured, language, metadata::jsonb, published_at, scheduled_at, tenant_seq
FROM unnest(
        $1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[], $6::uuid[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::boolean[],
        $15::text[], $16::text[], $17::timestamptz[], $18::timestamptz[], $19::bigint[]
) AS new (
    tenant, content, version, event, at, actor, changed, status, title, slug, body, summary, tags,
    featured, language, metadata, published_at, scheduled_at, tenant_seq
)
