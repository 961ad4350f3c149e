-- Several projectors share the work: who is there, and which partitions were let go of in order.

-- Hints only. Whoever writes where another one does is stopped by the fence of the checkpoint.
CREATE TABLE annals.projectors (
    id      uuid NOT NULL,
    fills   jsonb NOT NULL,
    backend integer NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT projectors_pkey PRIMARY KEY (id)
) WITH (fillfactor = 50);
COMMENT ON TABLE annals.projectors IS 'Projectors that run. Each writes its row once a second, reads the others, and works out alone what it is to fill.';
COMMENT ON COLUMN annals.projectors.id IS 'Of one run of one process.';
COMMENT ON COLUMN annals.projectors.fills IS 'The fold_hash that its release gives to each projection: it fills generations that have it.';
COMMENT ON COLUMN annals.projectors.backend IS 'PostgreSQL''s process at the other end of the connection that writes this row: it ends with the projector.';
COMMENT ON COLUMN annals.projectors.seen_at IS 'When it was last heard of.';

ALTER TABLE annals.checkpoints ADD COLUMN released boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN annals.checkpoints.released IS 'Whether its last holder let go of it in order: whoever waits for it need not wait until that one is silent.';
