-- Generations that stay at one place in the log: built beside the others under a name of their own, never live.

ALTER TABLE annals.generations DROP CONSTRAINT generations_state_known;
ALTER TABLE annals.generations ADD CONSTRAINT generations_state_known
    CHECK (state IN ('building', 'live', 'kept', 'freezing', 'frozen'));
COMMENT ON COLUMN annals.generations.state IS 'building: being filled beside the live one; live: answers queries; kept: the way back; freezing: being filled up to its cut; frozen: as far as its cut, and what the log says.';

-- One at a time of each projection, beside the one that is being rebuilt: they share neither rows nor checkpoints.
CREATE UNIQUE INDEX generations_one_is_freezing ON annals.generations (projection) WHERE state = 'freezing';

-- For annals.frozen to follow.
ALTER TABLE annals.generations ADD CONSTRAINT generations_with_state UNIQUE (projection, generation, state);

-- Nothing writes beyond a cut, whatever it believes.
ALTER TABLE annals.checkpoints ADD COLUMN cut bigint;
ALTER TABLE annals.checkpoints ADD CONSTRAINT checkpoints_not_beyond_its_cut CHECK (next_offset <= cut);
COMMENT ON COLUMN annals.checkpoints.cut IS 'The first offset that is left out for ever; null of a generation that follows the log.';

CREATE TABLE annals.frozen (
    projection text NOT NULL,
    generation integer NOT NULL,
    state      text NOT NULL DEFAULT 'freezing',
    name       text NOT NULL,
    until      text NOT NULL,
    until_time timestamptz,
    CONSTRAINT frozen_pkey PRIMARY KEY (projection, generation),
    CONSTRAINT frozen_name_is_taken UNIQUE (name),
    -- A generation that is here can become nothing else: neither live nor kept.
    CONSTRAINT frozen_never_lives CHECK (state IN ('freezing', 'frozen')),
    CONSTRAINT frozen_of_a_generation FOREIGN KEY (projection, generation, state)
        REFERENCES annals.generations (projection, generation, state) ON UPDATE CASCADE ON DELETE CASCADE
);
COMMENT ON TABLE annals.frozen IS 'Generations that stay at one place in the log, and what they are called.';
COMMENT ON COLUMN annals.frozen.projection IS 'The projection.';
COMMENT ON COLUMN annals.frozen.generation IS 'The generation.';
COMMENT ON COLUMN annals.frozen.state IS 'That of the generation; follows it.';
COMMENT ON COLUMN annals.frozen.name IS 'The schema (in ClickHouse the database) of views in which analysts find it.';
COMMENT ON COLUMN annals.frozen.until IS 'What was asked for: a position, or a time.';
COMMENT ON COLUMN annals.frozen.until_time IS 'A time whose places in the log are still to be found; until then its cuts are 0. Null when they are known.';

-- As show_live was, for any schema of views.
CREATE FUNCTION annals.show_views(generation_schema text, views text) RETURNS void LANGUAGE plpgsql AS $$
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
        EXECUTE format('DROP VIEW IF EXISTS %I.%I', views, shown.name);
        EXECUTE format(
            'CREATE VIEW %I.%I WITH (security_barrier) AS SELECT %s FROM %I.%I t WHERE EXISTS ('
            'SELECT 1 FROM annals.analysts a WHERE a.role = session_user AND (a.tenant IS NULL OR a.tenant = t.tenant))',
            views, shown.name, shown.columns, generation_schema, shown.name);
        EXECUTE format('COMMENT ON VIEW %I.%I IS %L', views, shown.name, shown.comment);
        FOR described IN
            SELECT a.attname AS name, col_description(shown.oid, a.attnum) AS comment
            FROM pg_attribute a
            WHERE a.attrelid = shown.oid AND a.attnum > 0 AND NOT a.attisdropped
              AND a.attname NOT IN ('secret_hash', 'search')
        LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I.%I IS %L', views, shown.name, described.name, described.comment);
        END LOOP;
    END LOOP;
    -- Safe for everyone: who is not in annals.analysts sees no row.
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO PUBLIC', views);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO PUBLIC', views);
END
$$;
COMMENT ON FUNCTION annals.show_views(text, text) IS 'Makes the views of a schema lead to this generation, limited to the tenants of whoever logged in. Hashes of secrets and search indexes are left out.';

CREATE OR REPLACE FUNCTION annals.show_live(generation_schema text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM annals.show_views(generation_schema, 'live');
END
$$;
