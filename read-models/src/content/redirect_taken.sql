-- A slug that another piece has now leads there, not back.
DELETE FROM content_redirects
USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS taken (tenant, site, kind, slug)
WHERE content_redirects.tenant = taken.tenant AND content_redirects.site = taken.site
  AND content_redirects.kind = taken.kind AND content_redirects.slug = taken.slug
