-- The tables of one generation of the projection "downloads": a tenant's queue and its history.
-- A template: run with the generation's schema as the search path. A change makes a new generation.

CREATE TABLE downloads (
    tenant         uuid NOT NULL,
    download       uuid NOT NULL,
    title          text NOT NULL,
    url            text NOT NULL,
    author         text,
    format         text,
    sha256         text,
    priority       integer NOT NULL,
    status         text NOT NULL,
    queue_seq      bigint NOT NULL,
    queue_index    integer NOT NULL,
    attempts       integer NOT NULL,
    failure        text,
    fetched_size   bigint,
    fetched_sha256 text,
    queued_at      timestamptz NOT NULL,
    queued_by      uuid,
    started_at     timestamptz,
    finished_at    timestamptz,
    updated_at     timestamptz NOT NULL,
    updated_by     uuid,
    version        bigint NOT NULL,
    CONSTRAINT downloads_pkey PRIMARY KEY (tenant, download),
    CONSTRAINT downloads_status_known
        CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled'))
);
CREATE INDEX downloads_in_queue ON downloads (tenant, priority, queue_seq, queue_index) WHERE status = 'queued';
CREATE INDEX downloads_by_queueing ON downloads (tenant, queued_at, download);
COMMENT ON TABLE downloads IS 'Every download that was ever queued, in its latest state.';
COMMENT ON COLUMN downloads.tenant IS 'Whose queue it is in.';
COMMENT ON COLUMN downloads.download IS 'Its id.';
COMMENT ON COLUMN downloads.title IS 'What it is, for people.';
COMMENT ON COLUMN downloads.url IS 'Where it is fetched from.';
COMMENT ON COLUMN downloads.author IS 'Author of the work; null when nobody said.';
COMMENT ON COLUMN downloads.format IS 'Such as epub; null when nobody said.';
COMMENT ON COLUMN downloads.sha256 IS 'What the file must hash to, 64 hexadecimal digits; null when nobody said.';
COMMENT ON COLUMN downloads.priority IS 'A lower number goes first.';
COMMENT ON COLUMN downloads.status IS 'queued, running, completed, failed or cancelled.';
COMMENT ON COLUMN downloads.queue_seq IS 'Order among equal priorities: the tenant''s own sequence number of the commit that queued it, or queued it again.';
COMMENT ON COLUMN downloads.queue_index IS 'Order within that commit.';
COMMENT ON COLUMN downloads.attempts IS 'How often a worker took it.';
COMMENT ON COLUMN downloads.failure IS 'Why the last attempt failed; null otherwise.';
COMMENT ON COLUMN downloads.fetched_size IS 'Bytes of the file that was fetched.';
COMMENT ON COLUMN downloads.fetched_sha256 IS 'What the fetched file hashes to.';
COMMENT ON COLUMN downloads.queued_at IS 'When it was first queued.';
COMMENT ON COLUMN downloads.queued_by IS 'The principal that queued it.';
COMMENT ON COLUMN downloads.started_at IS 'When a worker last took it.';
COMMENT ON COLUMN downloads.finished_at IS 'When it was completed, failed or was cancelled; null otherwise.';
COMMENT ON COLUMN downloads.updated_at IS 'Time of its latest event.';
COMMENT ON COLUMN downloads.updated_by IS 'The principal that caused it.';
COMMENT ON COLUMN downloads.version IS 'Version of the aggregate: events that happened to it.';
