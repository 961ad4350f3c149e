-- What verification in the background has found.

CREATE TABLE annals.verified (
    projection        text NOT NULL,
    generation        integer NOT NULL,
    slices            integer NOT NULL DEFAULT 1,
    next_slice        integer NOT NULL DEFAULT 0,
    compared          bigint NOT NULL DEFAULT 0,
    differing         bigint NOT NULL DEFAULT 0,
    looked_at         timestamptz,
    whole_compared    bigint,
    whole_differing   bigint,
    whole_at          timestamptz,
    CONSTRAINT verified_pkey PRIMARY KEY (projection, generation),
    CONSTRAINT verified_is_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation) ON DELETE CASCADE,
    CONSTRAINT verified_slice_exists CHECK (next_slice >= 0 AND next_slice < slices)
);
COMMENT ON TABLE annals.verified IS 'How far verification in the background is with a generation, slice by slice, and what it has found.';
COMMENT ON COLUMN annals.verified.projection IS 'The projection.';
COMMENT ON COLUMN annals.verified.generation IS 'The generation.';
COMMENT ON COLUMN annals.verified.slices IS 'Into how many slices its rows are dealt, by a hash: so many that one fits into the memory set aside for it.';
COMMENT ON COLUMN annals.verified.next_slice IS 'The slice that is compared next, from 0; slices before it were compared in this round.';
COMMENT ON COLUMN annals.verified.compared IS 'Rows that were compared in this round.';
COMMENT ON COLUMN annals.verified.differing IS 'Rows that were not what the log says, in this round.';
COMMENT ON COLUMN annals.verified.looked_at IS 'When a slice was last compared.';
COMMENT ON COLUMN annals.verified.whole_compared IS 'Rows that were compared in the last round that ended; null before the first.';
COMMENT ON COLUMN annals.verified.whole_differing IS 'Rows of that round that were not what the log says.';
COMMENT ON COLUMN annals.verified.whole_at IS 'When that round ended: when the generation was last verified whole.';
