-- A number is one generation's for ever: whoever still works on one that was dropped finds nothing under it, never
-- another one.

CREATE TABLE annals.numbers (
    projection text NOT NULL,
    last       integer NOT NULL,
    CONSTRAINT numbers_pkey PRIMARY KEY (projection)
);
COMMENT ON TABLE annals.numbers IS 'The number that was given last to a generation of each projection.';
COMMENT ON COLUMN annals.numbers.projection IS 'The projection.';
COMMENT ON COLUMN annals.numbers.last IS 'Also when that generation is gone.';

INSERT INTO annals.numbers (projection, last)
SELECT projection, max(generation) FROM annals.generations GROUP BY projection;

CREATE TABLE annals.leftovers (
    projection text NOT NULL,
    generation integer NOT NULL,
    CONSTRAINT leftovers_pkey PRIMARY KEY (projection, generation)
);
COMMENT ON TABLE annals.leftovers IS 'Generations that are gone here and may still have tables in ClickHouse.';
COMMENT ON COLUMN annals.leftovers.projection IS 'The projection.';
COMMENT ON COLUMN annals.leftovers.generation IS 'The number, which no other one gets.';
