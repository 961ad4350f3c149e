SELECT c.content, c.slug, c.status
FROM content_redirects r
JOIN content c USING (tenant, content)
WHERE r.tenant = $1 AND r.site = $2 AND r.kind = $3 AND r.slug = $4
