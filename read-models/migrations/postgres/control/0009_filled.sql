-- Whether tables have ever had all of the log. Until then what they lack looks like what never was, so nothing is
-- answered from them; once they had it, being behind is ordinary.

-- What answers already goes on answering.
ALTER TABLE annals.checkpoints ADD COLUMN filled boolean NOT NULL DEFAULT true;
ALTER TABLE annals.checkpoints ALTER COLUMN filled SET DEFAULT false;
COMMENT ON COLUMN annals.checkpoints.filled IS 'Whether next_offset was ever at the log''s end since the tables were made.';
