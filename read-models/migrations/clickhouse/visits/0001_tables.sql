-- Every kept visit event, every session and the fences of one generation of the projection `visits`.
-- Applied to the generation's own database (`visits_1`), which the connection names; nothing here does.
--
-- No table is partitioned by the time of a visit: an import reaches over years, and an insert that
-- spans table partitions would be several parts, so it could be half there after a crash.

CREATE TABLE IF NOT EXISTS events
(
    tenant         UUID                                  COMMENT 'Whose event it is',
    site           UUID                                  COMMENT 'The site that was visited',
    time           DateTime64(6, 'UTC')                  COMMENT 'When it happened, UTC',
    name           LowCardinality(String)                COMMENT '"pageview", "engagement" (someone read on), or the name of a custom event',
    visitor        UInt64                                COMMENT 'One visitor of one site on one day: a salted hash whose salt is destroyed',
    session        UInt64                                COMMENT 'The visit that it belongs to, as in sessions; 0 for engagement that came after its visit had ended',
    hostname       LowCardinality(String)                COMMENT 'Host of the page',
    pathname       String                                COMMENT 'Path of the page, without query and fragment',
    referrer       String                                COMMENT 'Host and path of the page that led here; empty for none',
    source         LowCardinality(String)                COMMENT 'What the referrer or campaign is called; empty for direct',
    device         LowCardinality(String)                COMMENT 'Desktop, Mobile or Tablet; empty when unknown',
    browser        LowCardinality(String)                COMMENT 'Such as Firefox; empty when unknown',
    os             LowCardinality(String)                COMMENT 'Such as Linux; empty when unknown',
    utm_source     LowCardinality(String)                COMMENT 'Campaign parameter of the URL; empty for none',
    utm_medium     LowCardinality(String)                COMMENT 'Campaign parameter of the URL; empty for none',
    utm_campaign   LowCardinality(String)                COMMENT 'Campaign parameter of the URL; empty for none',
    utm_content    LowCardinality(String)                COMMENT 'Campaign parameter of the URL; empty for none',
    utm_term       LowCardinality(String)                COMMENT 'Campaign parameter of the URL; empty for none',
    content        Nullable(UUID)                        COMMENT 'The piece of content that was viewed, where the viewer said so',
    props          Map(LowCardinality(String), String)   COMMENT 'What the site''s own tracker adds',
    revenue        Nullable(Decimal(38, 9))              COMMENT 'Amount that a custom event brought in',
    currency       LowCardinality(String)                COMMENT 'ISO 4217 code of revenue; empty for none',
    interactive    Bool                                  COMMENT 'Whether it keeps a visit from being a bounce',
    engaged_ms     UInt32                                COMMENT 'Of engagement: milliseconds that the page was looked at',
    scroll_depth   Nullable(UInt8)                       COMMENT 'Of engagement: how far down, in percent',
    import         Nullable(UUID)                        COMMENT 'The import that it came with; null for live visits',
    import_line    UInt64                                COMMENT 'Its line in the imported file, from 0',
    id             UUID                                  COMMENT 'Id of the event in the log',
    log_partition  UInt32                                COMMENT 'Where it stands in annals.visits: partition',
    log_offset     UInt64                                COMMENT 'Where it stands in annals.visits: offset of the record',
    log_index      UInt32                                COMMENT 'Where it stands in annals.visits: place in the record, from 0',

    -- Counting what a broken insert left reads few granules: the log's order is nearly that of time.
    INDEX log_place (log_partition, log_offset) TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
ORDER BY (tenant, site, time)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'One row for each kept event of a visit, each exactly once';

CREATE TABLE IF NOT EXISTS sessions
(
    tenant         UUID                                  COMMENT 'Whose visit it is',
    site           UUID                                  COMMENT 'The site that was visited',
    opened         DateTime64(6, 'UTC')                  COMMENT 'Time of the event that opened it in the log; part of its identity, never changes',
    session        UInt64                                COMMENT 'Made from its first event in the log; the same in every generation',
    visitor        UInt64                                COMMENT 'One visitor of one site on one day',
    start          DateTime64(6, 'UTC')                  COMMENT 'Time of its earliest event',
    last           DateTime64(6, 'UTC')                  COMMENT 'Time of its latest event, engagement included',
    duration       UInt32                                COMMENT 'Seconds from start to last',
    pageviews      UInt32                                COMMENT 'Page views in it',
    events         UInt32                                COMMENT 'Page views and custom events in it',
    is_bounce      Bool                                  COMMENT 'Fewer than two page views and interactive events',
    hostname       LowCardinality(String)                COMMENT 'Host of the first page',
    entry_page     String                                COMMENT 'Path of the first page viewed; empty when none was',
    exit_page      String                                COMMENT 'Path of the last page viewed; empty when none was',
    referrer       String                                COMMENT 'Of its earliest event; empty for none',
    source         LowCardinality(String)                COMMENT 'Of its earliest event; empty for direct',
    device         LowCardinality(String)                COMMENT 'Of its earliest event; empty when unknown',
    browser        LowCardinality(String)                COMMENT 'Of its earliest event; empty when unknown',
    os             LowCardinality(String)                COMMENT 'Of its earliest event; empty when unknown',
    utm_source     LowCardinality(String)                COMMENT 'Of its earliest event; empty for none',
    utm_medium     LowCardinality(String)                COMMENT 'Of its earliest event; empty for none',
    utm_campaign   LowCardinality(String)                COMMENT 'Of its earliest event; empty for none',
    utm_content    LowCardinality(String)                COMMENT 'Of its earliest event; empty for none',
    utm_term       LowCardinality(String)                COMMENT 'Of its earliest event; empty for none',
    import         Nullable(UUID)                        COMMENT 'The import that its first event came with; null for live visits',
    log_partition  UInt32                                COMMENT 'Partition of annals.visits that holds all its events',
    log_offset     UInt64                                COMMENT 'Version of the row: offset of the last record that changed it',

    INDEX log_place (log_partition, log_offset) TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(log_offset)
ORDER BY (tenant, site, opened, session)
COMMENT 'One row for each visit: its complete state; read with FINAL';

CREATE TABLE IF NOT EXISTS fences
(
    log_partition  UInt32                                COMMENT 'Partition of annals.visits',
    fence          UInt64                                COMMENT 'Only an insert that knows the highest fence of its partitions takes effect',
    owner          String                                COMMENT 'The process that wrote it',
    written_at     DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When it was written'
)
ENGINE = MergeTree
ORDER BY (log_partition, fence)
COMMENT 'Who may insert: the projector that took a partition over last';
