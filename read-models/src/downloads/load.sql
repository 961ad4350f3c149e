-- Rows that a batch of events touches.
SELECT
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
FROM downloads
JOIN unnest($1::uuid[], $2::uuid[]) AS wanted (tenant, download) USING (tenant, download)
