-- The latest state of each of these pieces.
SELECT
    tenant, site, content, toString(kind) AS kind, slug, title, toString(status) AS status, path, aliases, paths,
    former, toUnixTimestamp64Micro(published_at) AS published_at, log_partition, log_offset
FROM facts FINAL
-- The key begins with the tenant.
WHERE tenant IN (SELECT toUUID(arrayJoin({tenants:Array(String)})))
  AND content IN (SELECT toUUID(arrayJoin({pieces:Array(String)})))
