-- States of folds that outlive a batch. They only shorten a start: each can be made again from the log.

CREATE TABLE annals.fold_snapshots (
    projection  text NOT NULL,
    generation  integer NOT NULL,
    topic       text NOT NULL,
    "partition" integer NOT NULL,
    next_offset bigint NOT NULL,
    state       bytea NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fold_snapshots_pkey PRIMARY KEY (projection, generation, topic, "partition"),
    CONSTRAINT fold_snapshots_of_a_checkpoint FOREIGN KEY (projection, generation, topic, "partition")
        REFERENCES annals.checkpoints (projection, generation, topic, "partition") ON DELETE CASCADE
);
-- Ids and hashes do not compress; trying costs more than the bytes.
ALTER TABLE annals.fold_snapshots ALTER COLUMN state SET STORAGE EXTERNAL;
COMMENT ON TABLE annals.fold_snapshots IS 'What a fold remembers beyond its rows (open sessions, recent ids), at an offset that its checkpoint has reached.';
COMMENT ON COLUMN annals.fold_snapshots.projection IS 'The projection.';
COMMENT ON COLUMN annals.fold_snapshots.generation IS 'The generation.';
COMMENT ON COLUMN annals.fold_snapshots.topic IS 'Topic of the log, without its prefix.';
COMMENT ON COLUMN annals.fold_snapshots."partition" IS 'Partition of the topic, from 0.';
COMMENT ON COLUMN annals.fold_snapshots.next_offset IS 'The first offset that the state does not have; never beyond the checkpoint.';
COMMENT ON COLUMN annals.fold_snapshots.state IS 'The state, in the form of the fold that made it (its name stands first).';
COMMENT ON COLUMN annals.fold_snapshots.taken_at IS 'When it was taken.';
