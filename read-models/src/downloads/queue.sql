-- A lower priority first, equal ones in the order of queueing.
SELECT
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
FROM downloads
WHERE tenant = $1 AND status = 'queued'
  AND (priority, queue_seq, queue_index) > (coalesce($4, -2147483648), coalesce($5, -1::bigint), coalesce($6, -1))
ORDER BY priority, queue_seq, queue_index
LIMIT $2 OFFSET $3
