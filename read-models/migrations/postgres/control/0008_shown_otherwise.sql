-- Whether somebody laid a hand on the analysts' views.

-- Each is made once more where nobody sees it, as show_live makes it, and compared with what is there.
CREATE FUNCTION annals.shown_otherwise(generation_schema text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    expected record;
BEGIN
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
COMMENT ON FUNCTION annals.shown_otherwise(text) IS 'The views of schema live that are not as show_live makes them for this generation.';
