-- Views and visitors of each published piece of a site, in a period and in the one before it.
-- {facts} is the name of a database of ours.
WITH
    pieces AS (
        SELECT
            content, kind, slug, title, paths,
            -- A table that an earlier release has frozen lacks it.
            arrayConcat(emptyArrayString(), COLUMNS('^former$')) AS had,
            published_at
        FROM {facts}.facts FINAL
        WHERE tenant = {tenant:UUID} AND site = {site:UUID} AND status = 'published'
    ),
    -- Views of both periods, by what they say about the piece.
    views AS (
        SELECT
            content AS viewed,
            if(length(pathname) > 1, trimRight(pathname, '/'), pathname) AS path,
            time >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AS in_period,
            toDate(time, {timezone:String}) AS day,
            visitor
        FROM events
        WHERE tenant = {tenant:UUID} AND site = {site:UUID} AND name = 'pageview'
          AND time >= fromUnixTimestamp64Micro({before:Int64}, 'UTC')
          AND time < fromUnixTimestamp64Micro({to:Int64}, 'UTC')
    ),
    -- Whose a path is: theirs who have it now, else theirs who had it.
    held AS (
        SELECT content, place.1 AS path, place.2 AS left, min(place.2) OVER (PARTITION BY place.1) AS least
        FROM (
            SELECT content, arrayJoin(arrayConcat(
                arrayMap(path -> (path, 0), paths), arrayMap(path -> (path, 1), had)
            )) AS place
            FROM pieces
        )
    ),
    -- A view counts for the piece that it names, else for the pieces whose its path is.
    matched AS (
        SELECT assumeNotNull(viewed) AS content, in_period, day, visitor FROM views WHERE viewed IS NOT NULL
        UNION ALL
        SELECT by_path.content AS content, in_period, day, visitor
        FROM (SELECT path, in_period, day, visitor FROM views WHERE viewed IS NULL) AS views
        INNER JOIN (SELECT DISTINCT content, path FROM held WHERE left = least) AS by_path
            ON views.path = by_path.path
    ),
    counted AS (
        SELECT
            content,
            countIf(in_period) AS views,
            uniqExactIf((day, visitor), in_period) AS visitors,
            countIf(NOT in_period) AS views_before,
            uniqExactIf((day, visitor), NOT in_period) AS visitors_before
        FROM matched
        GROUP BY content
    )
SELECT
    pieces.content AS content,
    toString(pieces.kind) AS kind,
    pieces.slug AS slug,
    pieces.title AS title,
    arrayElement(pieces.paths, 1) AS path,
    if(pieces.published_at IS NULL, NULL,
       formatDateTime(assumeNotNull(pieces.published_at), '%Y-%m-%dT%H:%i:%SZ', 'UTC')) AS published_at,
    counted.views AS views,
    counted.visitors AS visitors,
    counted.views_before AS views_before,
    counted.visitors_before AS visitors_before
FROM pieces
LEFT JOIN counted ON pieces.content = counted.content
ORDER BY views DESC, visitors DESC, pieces.published_at DESC, pieces.content
LIMIT {size:Int64} OFFSET {skip:Int64}
