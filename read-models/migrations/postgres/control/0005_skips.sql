-- What operators do about parked events: trying again, and passing over.

ALTER TABLE annals.checkpoints ADD COLUMN parking bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN annals.checkpoints.parking IS 'Counts changes of what is parked or skipped that others than the holder made: with another number it looks again.';

ALTER TABLE annals.parked_aggregates ADD COLUMN attempts integer NOT NULL DEFAULT 1;
ALTER TABLE annals.parked_aggregates ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN annals.parked_aggregates.attempts IS 'How often its first event was tried.';
COMMENT ON COLUMN annals.parked_aggregates.tried_at IS 'When it was tried last.';

CREATE TABLE annals.skipped (
    projection  text NOT NULL,
    topic       text NOT NULL,
    "partition" integer NOT NULL,
    "offset"    bigint NOT NULL,
    event_index integer NOT NULL,
    tenant      uuid NOT NULL,
    subject     text NOT NULL,
    event_type  text NOT NULL,
    reason      text NOT NULL,
    skipped_by  text NOT NULL,
    why         text NOT NULL,
    skipped_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT skipped_pkey PRIMARY KEY (projection, topic, "partition", "offset", event_index)
);
COMMENT ON TABLE annals.skipped IS 'Events that operators let a projection pass over, in every generation: an input of its fold. Back it up.';
COMMENT ON COLUMN annals.skipped.projection IS 'The projection.';
COMMENT ON COLUMN annals.skipped.topic IS 'Where it is: topic.';
COMMENT ON COLUMN annals.skipped."partition" IS 'Where it is: partition.';
COMMENT ON COLUMN annals.skipped."offset" IS 'Where it is: offset of its record.';
COMMENT ON COLUMN annals.skipped.event_index IS 'Where it is: place in its record, from 0.';
COMMENT ON COLUMN annals.skipped.tenant IS 'Whose it is.';
COMMENT ON COLUMN annals.skipped.subject IS 'The aggregate that it happened to.';
COMMENT ON COLUMN annals.skipped.event_type IS 'Its name on the wire.';
COMMENT ON COLUMN annals.skipped.reason IS 'Why it could not be projected.';
COMMENT ON COLUMN annals.skipped.skipped_by IS 'Who let it be passed over: the public half of a key.';
COMMENT ON COLUMN annals.skipped.why IS 'Why, in that person''s words.';
COMMENT ON COLUMN annals.skipped.skipped_at IS 'When.';
