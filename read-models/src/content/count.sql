SELECT count(*) AS "count!"
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
