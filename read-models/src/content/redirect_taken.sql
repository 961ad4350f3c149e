-- A slug that another piece has now leads there, not back; unless that one took it before it was given up.
DELETE FROM content_redirects
USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[]) AS taken (tenant, site, kind, slug, tenant_seq)
WHERE content_redirects.tenant = taken.tenant AND content_redirects.site = taken.site
  AND content_redirects.kind = taken.kind AND content_redirects.slug = taken.slug
  AND content_redirects.tenant_seq <= taken.tenant_seq
