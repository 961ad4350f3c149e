-- Says that a projector is there, and gives the others that are: whoever was heard of within $3 seconds, or within $4
-- when its connection is gone. What was left behind long ago is cleared away.
WITH me AS (
    INSERT INTO annals.projectors (id, fills, backend, seen_at)
    VALUES ($1, $2, pg_backend_pid(), clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET backend = excluded.backend, seen_at = excluded.seen_at
), cleared AS (
    DELETE FROM annals.projectors
    WHERE id <> $1 AND seen_at < clock_timestamp() - interval '1 day'
)
SELECT id, fills
FROM annals.projectors
WHERE id <> $1
  -- Also when the clock was put back: then whoever is gone was heard of in times to come.
  AND abs(extract(epoch FROM clock_timestamp() - seen_at)::double precision) < CASE
      WHEN EXISTS (SELECT FROM pg_stat_get_activity(backend)) THEN $3::double precision
      ELSE $4::double precision END
ORDER BY id
