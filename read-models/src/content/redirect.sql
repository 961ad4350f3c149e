-- The last piece that gave a slug up has its redirect.
INSERT INTO content_redirects (tenant, site, kind, slug, content, since)
SELECT tenant, site, kind, slug, content, since
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[])
    AS new (tenant, site, kind, slug, content, since)
ON CONFLICT ON CONSTRAINT content_redirects_pkey
DO UPDATE SET content = excluded.content, since = excluded.since
