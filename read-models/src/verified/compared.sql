-- A slice was compared. The last one of a round ends it: what the round found is kept, and the next one begins.
UPDATE annals.verified
SET looked_at = now(),
    next_slice = (next_slice + 1) % slices,
    compared = CASE WHEN next_slice + 1 < slices THEN compared + $5 ELSE 0 END,
    differing = CASE WHEN next_slice + 1 < slices THEN differing + $6 ELSE 0 END,
    whole_compared = CASE WHEN next_slice + 1 < slices THEN whole_compared ELSE compared + $5 END,
    whole_differing = CASE WHEN next_slice + 1 < slices THEN whole_differing ELSE differing + $6 END,
    whole_at = CASE WHEN next_slice + 1 < slices THEN whole_at ELSE now() END
WHERE projection = $1 AND generation = $2 AND next_slice = $3 AND slices = $4
