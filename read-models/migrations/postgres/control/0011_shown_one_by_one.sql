-- Who compares the analysts' views and who makes them anew wait for each other: a view that was dropped and made again
-- in the midst of the comparison was an error there, or was told of as somebody's doing.

CREATE OR REPLACE FUNCTION annals.show_live(generation_schema text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock('annals.live'::regclass::oid::bigint);
    PERFORM annals.show_views(generation_schema, 'live');
END
$$;

-- As it was, but for its first line.
CREATE OR REPLACE FUNCTION annals.shown_otherwise(generation_schema text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    expected record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared('annals.live'::regclass::oid::bigint);
    FOR expected IN
        SELECT c.relname AS name, to_regclass(format('live.%I', c.relname)) AS shown,
               (SELECT string_agg(format('t.%I', a.attname), ', ' ORDER BY a.attnum)
                FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attname NOT IN ('secret_hash', 'search')) AS columns
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace(generation_schema) AND c.relkind = 'r'
    LOOP
        EXECUTE format(
            'CREATE TEMP VIEW annals_expected WITH (security_barrier) AS SELECT %s FROM %I.%I t WHERE EXISTS ('
            'SELECT 1 FROM annals.analysts a WHERE a.role = session_user AND (a.tenant IS NULL OR a.tenant = t.tenant))',
            expected.columns, generation_schema, expected.name);
        IF NOT EXISTS (
            SELECT 1 FROM pg_class shown, pg_class made
            WHERE shown.oid = expected.shown AND made.oid = 'pg_temp.annals_expected'::regclass
              AND shown.relkind = 'v' AND shown.reloptions IS NOT DISTINCT FROM made.reloptions
              AND pg_get_viewdef(shown.oid) = pg_get_viewdef(made.oid)
        ) THEN
            RETURN NEXT expected.name::text;
        END IF;
        DROP VIEW pg_temp.annals_expected;
    END LOOP;
END
$$;
