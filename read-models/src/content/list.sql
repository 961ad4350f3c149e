-- The planner sees the values of $1 to $13 (plans are made anew for each): conditions on absent ones and
-- the orders that were not asked for fall away, and what is left can use an index.
SELECT
    content, site, kind, status, title, slug, path, summary, tags, featured, language, metadata,
    published_at, scheduled_at, created_at, updated_at, version, dated_at AS "dated_at!"
FROM content
WHERE tenant = $1
  AND ($2::uuid IS NULL OR site = $2)
  AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR status = $4)
  AND ($5::text IS NULL OR tags @> ARRAY[$5::text])
  AND ($6::boolean IS NULL OR featured = $6)
  AND ($7::text IS NULL OR lower(language) = lower($7) OR starts_with(lower(language), lower($7) || '-'))
  -- The index is asked for the words in any language's form, then each row in its own.
  AND ($8::text IS NULL OR (search @@ search_any($8)
                            AND search @@ websearch_to_tsquery(search_config(language), $8)))
  -- After the cursor's row, in the order asked for.
  AND ($11::uuid IS NULL OR CASE $9::text
        WHEN 'published_at' THEN CASE WHEN $10::boolean THEN (dated_at, content) < ($12::timestamptz, $11) ELSE (dated_at, content) > ($12::timestamptz, $11) END
        WHEN 'updated_at' THEN CASE WHEN $10::boolean THEN (updated_at, content) < ($12::timestamptz, $11) ELSE (updated_at, content) > ($12::timestamptz, $11) END
        WHEN 'created_at' THEN CASE WHEN $10::boolean THEN (created_at, content) < ($12::timestamptz, $11) ELSE (created_at, content) > ($12::timestamptz, $11) END
        WHEN 'title' THEN CASE WHEN $10::boolean THEN (title COLLATE "C", content) < ($13::text, $11) ELSE (title COLLATE "C", content) > ($13::text, $11) END
    END)
ORDER BY
    CASE WHEN $9 = 'published_at' AND NOT $10 THEN dated_at END,
    CASE WHEN $9 = 'published_at' AND $10 THEN dated_at END DESC,
    CASE WHEN $9 = 'updated_at' AND NOT $10 THEN updated_at END,
    CASE WHEN $9 = 'updated_at' AND $10 THEN updated_at END DESC,
    CASE WHEN $9 = 'created_at' AND NOT $10 THEN created_at END,
    CASE WHEN $9 = 'created_at' AND $10 THEN created_at END DESC,
    CASE WHEN $9 = 'title' AND NOT $10 THEN title COLLATE "C" END,
    CASE WHEN $9 = 'title' AND $10 THEN title COLLATE "C" END DESC,
    CASE WHEN $10 THEN content END DESC,
    CASE WHEN NOT $10 THEN content END
LIMIT $14 OFFSET $15
