-- What statistics need to know about content: one generation of the projection `content_facts`.
-- Rows are complete states, idempotent by key and version, so an insert that is repeated changes nothing.

CREATE TABLE IF NOT EXISTS facts
(
    tenant         UUID                         COMMENT 'Whose piece it is',
    site           UUID                         COMMENT 'The site that it belongs to',
    content        UUID                         COMMENT 'Its id',
    kind           LowCardinality(String)       COMMENT 'post, project, idea, page or resume',
    slug           String                       COMMENT 'Its present slug',
    title          String                       COMMENT 'Its present title',
    status         LowCardinality(String)       COMMENT 'draft, scheduled, published, unpublished or archived',
    path           String                       COMMENT 'metadata.path of the piece when it names one, without a slash at the end; else empty',
    aliases        Array(String)                COMMENT 'metadata.aliases of the piece, without a slash at the end',
    paths          Array(String)                COMMENT 'Paths at which it is viewed, without a slash at the end',
    former         Array(String)                COMMENT 'Paths at which it was viewed, also by aliases, and is not now, without a slash at the end; the last 100',
    published_at   Nullable(DateTime64(6, 'UTC')) COMMENT 'The date that it carries; null when it was never published',
    log_partition  UInt32                       COMMENT 'Partition of annals.ledger that holds all its events',
    log_offset     UInt64                       COMMENT 'Version of the row: offset of the last commit that changed it'
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY (tenant, site, content)
COMMENT 'The present state of each piece of content; read with FINAL';
