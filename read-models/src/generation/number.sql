-- The next number of a projection. (A release that does not know the table gives the highest of those that are there.)
INSERT INTO annals.numbers AS n (projection, last)
SELECT $1, coalesce(max(generation), 0) + 1 FROM annals.generations WHERE projection = $1
ON CONFLICT (projection) DO UPDATE SET last = greatest(n.last + 1, excluded.last)
RETURNING last
