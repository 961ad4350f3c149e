INSERT INTO downloads (
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
)
SELECT
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[],
        $9::text[], $10::bigint[], $11::integer[], $12::integer[], $13::text[], $14::bigint[], $15::text[],
        $16::timestamptz[], $17::uuid[], $18::timestamptz[], $19::timestamptz[], $20::timestamptz[],
        $21::uuid[], $22::bigint[]
) AS new (
    tenant, download, title, url, author, format, sha256, priority, status, queue_seq, queue_index,
    attempts, failure, fetched_size, fetched_sha256, queued_at, queued_by, started_at, finished_at,
    updated_at, updated_by, version
)
