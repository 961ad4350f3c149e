-- Generations that are built beside the live one, and the way back.

ALTER TABLE annals.generations ADD COLUMN kept_since timestamptz;
COMMENT ON COLUMN annals.generations.kept_since IS 'Since when another one answers queries; null of one that does, or never did.';

-- Two rebuilds of one projection exclude each other by this alone.
CREATE UNIQUE INDEX generations_one_is_built ON annals.generations (projection) WHERE state = 'building';

ALTER TABLE annals.live ADD COLUMN shown integer;
COMMENT ON COLUMN annals.live.shown IS 'The generation that the analysts'' views lead to; follows generation.';
UPDATE annals.live SET shown = generation;

CREATE TABLE annals.rebuilds (
    projection text NOT NULL,
    generation integer NOT NULL,
    why        text NOT NULL,
    rate       integer,
    paused     boolean NOT NULL DEFAULT false,
    failure    text,
    begun_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT rebuilds_pkey PRIMARY KEY (projection, generation),
    CONSTRAINT rebuilds_of_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation) ON DELETE CASCADE,
    CONSTRAINT rebuilds_rate_positive CHECK (rate > 0)
);
COMMENT ON TABLE annals.rebuilds IS 'What is known of a generation that is being built; goes when it is live.';
COMMENT ON COLUMN annals.rebuilds.projection IS 'The projection.';
COMMENT ON COLUMN annals.rebuilds.generation IS 'The generation that is being built.';
COMMENT ON COLUMN annals.rebuilds.why IS 'For people: who asked for it, or what has changed.';
COMMENT ON COLUMN annals.rebuilds.rate IS 'Events a second at most; null: as fast as it goes.';
COMMENT ON COLUMN annals.rebuilds.paused IS 'Whether it stays where it is.';
COMMENT ON COLUMN annals.rebuilds.failure IS 'Why it may not become live, for people; null as long as nothing speaks against it.';
COMMENT ON COLUMN annals.rebuilds.begun_at IS 'When it was begun.';
