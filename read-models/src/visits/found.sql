-- What stands in the tables of one partition's offsets from `from` on and before `before`.
WITH
    -- The same sum of marks as rows.rs computes before it records a range.
    there AS (
        SELECT
            count() AS rows,
            sumWithOverflow(bitXor(
                reinterpretAsUInt64(reverse(substring(UUIDToNum(id), 9, 8))),
                toUInt64(log_offset * 1000003 + log_index)
            )) AS fingerprint
        FROM events
        WHERE log_partition = {partition:UInt32}
          AND log_offset >= {from:UInt64} AND log_offset < {before:UInt64}
    ),
    -- Versions may have been merged away by later ones only, and later ones are in the range too.
    touched AS (
        SELECT uniqExact(tenant, site, session) AS sessions
        FROM sessions
        WHERE log_partition = {partition:UInt32}
          AND log_offset >= {from:UInt64} AND log_offset < {before:UInt64}
    )
SELECT there.rows AS rows, there.fingerprint AS fingerprint, touched.sessions AS sessions
FROM there CROSS JOIN touched
