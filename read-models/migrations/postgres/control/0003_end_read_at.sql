-- When the log's end was really asked for. A batch brings an end with it that may be as old as its reading;
-- only one that was asked for after a query came can say that the query's position does not exist.

ALTER TABLE annals.checkpoints ADD COLUMN end_read_at timestamptz NOT NULL DEFAULT 'epoch';
COMMENT ON COLUMN annals.checkpoints.end_read_at IS 'When log_end was last asked of the log itself.';
COMMENT ON COLUMN annals.checkpoints.updated_at IS 'When this row was last written.';
