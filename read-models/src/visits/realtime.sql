-- Visitors since `recent`, and page views of each minute of the range that has any.
WITH
    recent_events AS (
        SELECT time, visitor, name
        FROM events
        WHERE tenant = {tenant:UUID} AND site = {site:UUID}
          AND time >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')
          AND time < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
          AND name != 'engagement'
    ),
    per_minute AS (
        SELECT toUnixTimestamp(toStartOfMinute(time)) AS minute, countIf(name = 'pageview') AS views
        FROM recent_events
        GROUP BY minute
    )
SELECT
    -- A scalar subquery is Nullable; the reader wants a plain number.
    ifNull((SELECT uniqExact(visitor) FROM recent_events
            WHERE time >= fromUnixTimestamp64Micro({recent:Int64}, 'UTC')), 0) AS visitors,
    (SELECT groupArray((toInt64(minute), toUInt64(views))) FROM per_minute) AS minutes
