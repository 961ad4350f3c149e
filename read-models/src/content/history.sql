SELECT version, event, at, actor, changed, status
FROM content_versions
WHERE tenant = $1 AND content = $2 AND version > $3
ORDER BY version
LIMIT $4 OFFSET $5
