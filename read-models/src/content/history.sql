SELECT version, event, at, actor, changed, status
FROM content_versions
WHERE tenant = $1 AND content = $2
ORDER BY version
