-- The control schema: what is built, what is live, how far each fold has come.
-- It holds no tenant's business data; everything in it can be rebuilt from the log.
-- This file is never edited; a change is a new file beside it.

CREATE TABLE annals.log (
    only_row boolean NOT NULL DEFAULT true,
    log_id   uuid NOT NULL,
    CONSTRAINT log_pkey PRIMARY KEY (only_row),
    CONSTRAINT log_is_one CHECK (only_row)
);
COMMENT ON TABLE annals.log IS 'The log that these read models are folded from: exactly one.';
COMMENT ON COLUMN annals.log.only_row IS 'Always true: keeps the table at one row.';
COMMENT ON COLUMN annals.log.log_id IS 'Identity of the log, from its genesis record.';

CREATE TABLE annals.generations (
    projection text NOT NULL,
    generation integer NOT NULL,
    state      text NOT NULL,
    fold_hash  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT generations_pkey PRIMARY KEY (projection, generation),
    CONSTRAINT generations_counts_from_one CHECK (generation > 0),
    CONSTRAINT generations_state_known CHECK (state IN ('building', 'live', 'kept'))
);
COMMENT ON TABLE annals.generations IS 'Every generation of every projection that has tables.';
COMMENT ON COLUMN annals.generations.projection IS 'directory, content, downloads, visits or content_facts.';
COMMENT ON COLUMN annals.generations.generation IS 'From 1; its tables are in the schema (or ClickHouse database) <projection>_<generation>.';
COMMENT ON COLUMN annals.generations.state IS 'building: being filled beside the live one; live: answers queries; kept: the way back.';
COMMENT ON COLUMN annals.generations.fold_hash IS 'Fingerprint of the tables'' definition and of the fold that fills them; another one means a rebuild.';
COMMENT ON COLUMN annals.generations.created_at IS 'When its tables were made.';

CREATE TABLE annals.live (
    projection text NOT NULL,
    generation integer NOT NULL,
    CONSTRAINT live_pkey PRIMARY KEY (projection),
    CONSTRAINT live_is_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation)
);
COMMENT ON TABLE annals.live IS 'Which generation answers queries: one row a projection, switched in one step.';
COMMENT ON COLUMN annals.live.projection IS 'The projection.';
COMMENT ON COLUMN annals.live.generation IS 'The generation that answers.';

CREATE TABLE annals.checkpoints (
    projection  text NOT NULL,
    generation  integer NOT NULL,
    topic       text NOT NULL,
    "partition" integer NOT NULL,
    next_offset bigint NOT NULL DEFAULT 0,
    epoch       bigint NOT NULL DEFAULT 0,
    seq         bigint NOT NULL DEFAULT 0,
    hash        bytea NOT NULL DEFAULT '\x0000000000000000000000000000000000000000000000000000000000000000',
    fence       bigint NOT NULL DEFAULT 0,
    log_end     bigint NOT NULL DEFAULT 0,
    last_time   timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    stopped     text,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, generation, topic, "partition"),
    CONSTRAINT checkpoints_of_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation) ON DELETE CASCADE,
    CONSTRAINT checkpoints_topic_known CHECK (topic IN ('directory', 'ledger', 'visits')),
    CONSTRAINT checkpoints_not_negative CHECK (next_offset >= 0 AND epoch >= 0 AND seq >= 0 AND fence >= 0),
    CONSTRAINT checkpoints_hash_is_sha256 CHECK (length(hash) = 32)
) WITH (fillfactor = 50);
COMMENT ON TABLE annals.checkpoints IS 'How far each fold has come. Moves in the transaction of the rows, and only for the holder of the fence.';
COMMENT ON COLUMN annals.checkpoints.projection IS 'The projection.';
COMMENT ON COLUMN annals.checkpoints.generation IS 'The generation.';
COMMENT ON COLUMN annals.checkpoints.topic IS 'Topic of the log, without its prefix: directory, ledger or visits.';
COMMENT ON COLUMN annals.checkpoints."partition" IS 'Partition of the topic, from 0.';
COMMENT ON COLUMN annals.checkpoints.next_offset IS 'The first offset that is not in the tables yet.';
COMMENT ON COLUMN annals.checkpoints.epoch IS 'Admission state before next_offset: epoch of the last admitted claim.';
COMMENT ON COLUMN annals.checkpoints.seq IS 'Admission state before next_offset: sequence number of the last admitted commit in that epoch.';
COMMENT ON COLUMN annals.checkpoints.hash IS 'Admission state before next_offset: hash of the last admitted record (SHA-256).';
COMMENT ON COLUMN annals.checkpoints.fence IS 'Raised by whoever takes this partition over; a write with an older one is refused.';
COMMENT ON COLUMN annals.checkpoints.log_end IS 'The next offset that the log would give, as last seen.';
COMMENT ON COLUMN annals.checkpoints.last_time IS 'Time of the last event before next_offset.';
COMMENT ON COLUMN annals.checkpoints.updated_at IS 'When this row was last written; log_end is as old as this.';
COMMENT ON COLUMN annals.checkpoints.stopped IS 'Why the fold does not go on, for people; null while it does.';

CREATE TABLE annals.parked_aggregates (
    projection  text NOT NULL,
    generation  integer NOT NULL,
    tenant      uuid NOT NULL,
    subject     text NOT NULL,
    topic       text NOT NULL,
    "partition" integer NOT NULL,
    since       bigint NOT NULL,
    reason      text NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_aggregates_pkey PRIMARY KEY (projection, generation, tenant, subject),
    CONSTRAINT parked_aggregates_of_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation) ON DELETE CASCADE
);
COMMENT ON TABLE annals.parked_aggregates IS 'Aggregates with an event that cannot be projected: that one and every later one wait in annals.parked.';
COMMENT ON COLUMN annals.parked_aggregates.projection IS 'The projection.';
COMMENT ON COLUMN annals.parked_aggregates.generation IS 'The generation.';
COMMENT ON COLUMN annals.parked_aggregates.tenant IS 'Whose aggregate it is.';
COMMENT ON COLUMN annals.parked_aggregates.subject IS 'The aggregate: its id as text.';
COMMENT ON COLUMN annals.parked_aggregates.topic IS 'Topic of its events.';
COMMENT ON COLUMN annals.parked_aggregates."partition" IS 'Partition of its events.';
COMMENT ON COLUMN annals.parked_aggregates.since IS 'Offset of the event that could not be projected.';
COMMENT ON COLUMN annals.parked_aggregates.reason IS 'Why, for people.';
COMMENT ON COLUMN annals.parked_aggregates.parked_at IS 'When it was parked.';

CREATE TABLE annals.parked (
    projection  text NOT NULL,
    generation  integer NOT NULL,
    topic       text NOT NULL,
    "partition" integer NOT NULL,
    "offset"    bigint NOT NULL,
    event_index integer NOT NULL,
    tenant      uuid NOT NULL,
    subject     text NOT NULL,
    event_type  text NOT NULL,
    CONSTRAINT parked_pkey PRIMARY KEY (projection, generation, topic, "partition", "offset", event_index),
    CONSTRAINT parked_of_an_aggregate FOREIGN KEY (projection, generation, tenant, subject)
        REFERENCES annals.parked_aggregates (projection, generation, tenant, subject) ON DELETE CASCADE
);
COMMENT ON TABLE annals.parked IS 'Events that wait, in the order of the log; their content is read from the log again.';
COMMENT ON COLUMN annals.parked.projection IS 'The projection.';
COMMENT ON COLUMN annals.parked.generation IS 'The generation.';
COMMENT ON COLUMN annals.parked.topic IS 'Where it is: topic.';
COMMENT ON COLUMN annals.parked."partition" IS 'Where it is: partition.';
COMMENT ON COLUMN annals.parked."offset" IS 'Where it is: offset of its record.';
COMMENT ON COLUMN annals.parked.event_index IS 'Where it is: place in its record, from 0.';
COMMENT ON COLUMN annals.parked.tenant IS 'Whose it is.';
COMMENT ON COLUMN annals.parked.subject IS 'The aggregate that it happened to.';
COMMENT ON COLUMN annals.parked.event_type IS 'Its name on the wire, such as content.published.v1.';

CREATE TABLE annals.ranges (
    projection  text NOT NULL,
    generation  integer NOT NULL,
    insert_id   bigint GENERATED ALWAYS AS IDENTITY,
    attempt     integer NOT NULL,
    parts       jsonb NOT NULL,
    row_count   bigint NOT NULL,
    fingerprint text NOT NULL,
    state       text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ranges_pkey PRIMARY KEY (projection, generation, insert_id),
    CONSTRAINT ranges_of_a_generation FOREIGN KEY (projection, generation)
        REFERENCES annals.generations (projection, generation) ON DELETE CASCADE,
    CONSTRAINT ranges_state_known CHECK (state IN ('recorded', 'inserted', 'done'))
);
COMMENT ON TABLE annals.ranges IS 'What is about to be written to ClickHouse, where no transaction covers rows and checkpoint.';
COMMENT ON COLUMN annals.ranges.projection IS 'The projection.';
COMMENT ON COLUMN annals.ranges.generation IS 'The generation.';
COMMENT ON COLUMN annals.ranges.insert_id IS 'Names the insert.';
COMMENT ON COLUMN annals.ranges.attempt IS 'From 1; a retry after an unknown outcome is a new attempt, so that no token of an older one counts.';
COMMENT ON COLUMN annals.ranges.parts IS 'JSON array of {topic, partition, from, to, fence}: offsets from (included) to (excluded).';
COMMENT ON COLUMN annals.ranges.row_count IS 'Rows that the insert has.';
COMMENT ON COLUMN annals.ranges.fingerprint IS 'Of those rows, in hexadecimal digits.';
COMMENT ON COLUMN annals.ranges.state IS 'recorded: the insert may or may not have happened; inserted: it has; done: the checkpoints have moved.';
COMMENT ON COLUMN annals.ranges.recorded_at IS 'When it was recorded.';

CREATE TABLE annals.analysts (
    role   name NOT NULL,
    tenant uuid,
    CONSTRAINT analysts_unique UNIQUE NULLS NOT DISTINCT (role, tenant)
);
COMMENT ON TABLE annals.analysts IS 'Which tenants'' rows a database role sees through the views of schema live.';
COMMENT ON COLUMN annals.analysts.role IS 'The role that logged in (session_user).';
COMMENT ON COLUMN annals.analysts.tenant IS 'A tenant that it may see; null: every tenant.';

CREATE SCHEMA IF NOT EXISTS live;
COMMENT ON SCHEMA live IS 'For analysts: views on the live generation of each projection, limited to the tenants in annals.analysts.';

CREATE TABLE annals.readers (
    role name NOT NULL,
    CONSTRAINT readers_pkey PRIMARY KEY (role)
);
COMMENT ON TABLE annals.readers IS 'Roles of services that may SELECT in every generation.';
COMMENT ON COLUMN annals.readers.role IS 'The role.';

-- Lets the readers read a schema and everything in it.
CREATE FUNCTION annals.grant_readers(in_schema text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    reader name;
BEGIN
    FOR reader IN SELECT role FROM annals.readers LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', in_schema, reader);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', in_schema, reader);
    END LOOP;
END
$$;
COMMENT ON FUNCTION annals.grant_readers(text) IS 'Lets the readers read a schema and everything in it.';

-- Shows a generation to analysts: a view of each of its tables, with the same comments, limited to the
-- tenants of whoever logged in. Hashes of secrets and search indexes are left out.
CREATE FUNCTION annals.show_live(generation_schema text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    shown record;
    described record;
BEGIN
    FOR shown IN
        SELECT c.oid, c.relname AS name, obj_description(c.oid) AS comment,
               (SELECT string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum)
                FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attname NOT IN ('secret_hash', 'search')) AS columns
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(generation_schema) AND c.relkind = 'r'
    LOOP
        EXECUTE format('DROP VIEW IF EXISTS live.%I', shown.name);
        EXECUTE format(
            'CREATE VIEW live.%I WITH (security_barrier) AS SELECT %s FROM %I.%I t WHERE EXISTS ('
            'SELECT 1 FROM annals.analysts a WHERE a.role = session_user AND (a.tenant IS NULL OR a.tenant = t.tenant))',
            shown.name, shown.columns, generation_schema, shown.name);
        EXECUTE format('COMMENT ON VIEW live.%I IS %L', shown.name, shown.comment);
        FOR described IN
            SELECT a.attname AS name, col_description(shown.oid, a.attnum) AS comment
            FROM pg_attribute a
            WHERE a.attrelid = shown.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname NOT IN ('secret_hash', 'search')
        LOOP
            EXECUTE format('COMMENT ON COLUMN live.%I.%I IS %L', shown.name, described.name, described.comment);
        END LOOP;
    END LOOP;
    -- Safe for everyone: who is not in annals.analysts sees no row.
    GRANT USAGE ON SCHEMA live TO PUBLIC;
    GRANT SELECT ON ALL TABLES IN SCHEMA live TO PUBLIC;
END
$$;
COMMENT ON FUNCTION annals.show_live(text) IS 'Makes the views of schema live lead to this generation.';
