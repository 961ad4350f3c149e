-- The last piece that gave a slug up has its redirect, unless a piece took it after that. Last is what the log says:
-- an event that was parked may be folded long after others that follow it.
INSERT INTO content_redirects (tenant, site, kind, slug, content, since, tenant_seq)
SELECT tenant, site, kind, slug, content, since, tenant_seq
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[], $7::bigint[])
    AS new (tenant, site, kind, slug, content, since, tenant_seq)
WHERE NOT EXISTS (
    -- Whoever took it and gave it up again has left a redirect; so only those count that have it.
    SELECT 1
    FROM content c
    JOIN content_versions v USING (tenant, content)
    WHERE c.tenant = new.tenant AND c.site = new.site AND c.kind = new.kind AND c.slug = new.slug
      AND v.slug = new.slug AND v.tenant_seq > new.tenant_seq
)
ON CONFLICT ON CONSTRAINT content_redirects_pkey
DO UPDATE SET content = excluded.content, since = excluded.since, tenant_seq = excluded.tenant_seq
WHERE content_redirects.tenant_seq <= excluded.tenant_seq
