SELECT
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
FROM downloads
WHERE tenant = $1 AND ($2::text IS NULL OR status = $2)
  AND (queued_at, download) < (coalesce($5, 'infinity'::timestamptz), coalesce($6, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
ORDER BY queued_at DESC, download DESC
LIMIT $3 OFFSET $4
