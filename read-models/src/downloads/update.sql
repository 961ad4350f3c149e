-- Title, URL and the like never change.
UPDATE downloads SET
    priority = new.priority, status = new.status, queue_seq = new.queue_seq, queue_index = new.queue_index,
    attempts = new.attempts, failure = new.failure, fetched_size = new.fetched_size,
    fetched_sha256 = new.fetched_sha256, started_at = new.started_at, finished_at = new.finished_at,
    updated_at = new.updated_at, updated_by = new.updated_by, version = new.version
FROM unnest(
        $1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::integer[], $7::integer[],
        $8::text[], $9::bigint[], $10::text[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
        $14::uuid[], $15::bigint[]
) AS new (
    tenant, download, priority, status, queue_seq, queue_index, attempts, failure, fetched_size,
    fetched_sha256, started_at, finished_at, updated_at, updated_by, version
)
WHERE downloads.tenant = new.tenant AND downloads.download = new.download
