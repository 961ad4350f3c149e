-- Views are replaced where they stand, so that what people have made on top of them goes on, and leads where they lead.

CREATE OR REPLACE FUNCTION annals.show_views(generation_schema text, views text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    shown record;
    described record;
    definition text;
    dependents text;
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
        definition := format(
            'VIEW %I.%I WITH (security_barrier) AS SELECT %s FROM %I.%I t WHERE EXISTS ('
            'SELECT 1 FROM annals.analysts a WHERE a.role = session_user AND (a.tenant IS NULL OR a.tenant = t.tenant))',
            views, shown.name, shown.columns, generation_schema, shown.name);
        BEGIN
            EXECUTE 'CREATE OR REPLACE ' || definition;
        EXCEPTION WHEN invalid_table_definition OR wrong_object_type THEN
            -- Its columns are others now, or it is no view: then this says so.
            BEGIN
                EXECUTE format('DROP VIEW IF EXISTS %I.%I', views, shown.name);
            EXCEPTION WHEN dependent_objects_still_exist THEN
                GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
                RAISE EXCEPTION 'the columns of %.% are others now, and it cannot be made anew while something depends on it (%): drop that, and it is made by itself',
                    views, shown.name, replace(dependents, E'\n', '; ');
            END;
            EXECUTE 'CREATE ' || definition;
        END;
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
