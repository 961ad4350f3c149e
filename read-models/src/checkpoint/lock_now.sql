-- As lock.sql, or an error where somebody else has the lock.
SELECT next_offset, fence, parking
FROM annals.checkpoints
WHERE projection = $1 AND generation = $2 AND topic = $3 AND "partition" = $4
FOR UPDATE NOWAIT
