-- The tables of one generation of the projection "content": what is published, and how it came about.
-- A template: run with the generation's schema as the search path. A change makes a new generation.

-- Full-text search knows the word forms of these languages; others are searched word by word.
CREATE FUNCTION search_config(language text) RETURNS regconfig
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE lower(split_part(language, '-', 1))
        WHEN 'da' THEN 'pg_catalog.danish'::regconfig
        WHEN 'de' THEN 'pg_catalog.german'::regconfig
        WHEN 'en' THEN 'pg_catalog.english'::regconfig
        WHEN 'es' THEN 'pg_catalog.spanish'::regconfig
        WHEN 'fi' THEN 'pg_catalog.finnish'::regconfig
        WHEN 'fr' THEN 'pg_catalog.french'::regconfig
        WHEN 'hu' THEN 'pg_catalog.hungarian'::regconfig
        WHEN 'it' THEN 'pg_catalog.italian'::regconfig
        WHEN 'nb' THEN 'pg_catalog.norwegian'::regconfig
        WHEN 'nl' THEN 'pg_catalog.dutch'::regconfig
        WHEN 'nn' THEN 'pg_catalog.norwegian'::regconfig
        WHEN 'no' THEN 'pg_catalog.norwegian'::regconfig
        WHEN 'pt' THEN 'pg_catalog.portuguese'::regconfig
        WHEN 'ro' THEN 'pg_catalog.romanian'::regconfig
        WHEN 'ru' THEN 'pg_catalog.russian'::regconfig
        WHEN 'sv' THEN 'pg_catalog.swedish'::regconfig
        WHEN 'tr' THEN 'pg_catalog.turkish'::regconfig
        ELSE 'pg_catalog.simple'::regconfig
    END;
COMMENT ON FUNCTION search_config(text) IS 'The text search configuration for a BCP 47 language; simple when there is none.';

-- What the index is asked: the words in every language's form. Each row is then checked in its own.
CREATE FUNCTION search_any(words text) RETURNS tsquery
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN websearch_to_tsquery('pg_catalog.simple', words)
        || websearch_to_tsquery('pg_catalog.danish', words)
        || websearch_to_tsquery('pg_catalog.german', words)
        || websearch_to_tsquery('pg_catalog.english', words)
        || websearch_to_tsquery('pg_catalog.spanish', words)
        || websearch_to_tsquery('pg_catalog.finnish', words)
        || websearch_to_tsquery('pg_catalog.french', words)
        || websearch_to_tsquery('pg_catalog.hungarian', words)
        || websearch_to_tsquery('pg_catalog.italian', words)
        || websearch_to_tsquery('pg_catalog.norwegian', words)
        || websearch_to_tsquery('pg_catalog.dutch', words)
        || websearch_to_tsquery('pg_catalog.portuguese', words)
        || websearch_to_tsquery('pg_catalog.romanian', words)
        || websearch_to_tsquery('pg_catalog.russian', words)
        || websearch_to_tsquery('pg_catalog.swedish', words)
        || websearch_to_tsquery('pg_catalog.turkish', words);
COMMENT ON FUNCTION search_any(text) IS 'A search in the word forms of every language that search_config knows.';

CREATE TABLE content (
    tenant       uuid NOT NULL,
    content      uuid NOT NULL,
    site         uuid NOT NULL,
    kind         text NOT NULL,
    status       text NOT NULL,
    title        text NOT NULL,
    slug         text NOT NULL,
    path         text NOT NULL,
    aliases      text[] NOT NULL,
    body         text NOT NULL,
    summary      text,
    tags         text[] NOT NULL,
    featured     boolean NOT NULL,
    language     text,
    metadata     jsonb NOT NULL,
    published_at timestamptz,
    scheduled_at timestamptz,
    created_at   timestamptz NOT NULL,
    created_by   uuid,
    updated_at   timestamptz NOT NULL,
    updated_by   uuid,
    version      bigint NOT NULL,
    dated_at     timestamptz NOT NULL GENERATED ALWAYS AS (COALESCE(published_at, created_at)) STORED,
    search       tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector(search_config(language), title), 'A')
        || setweight(to_tsvector(search_config(language), COALESCE(summary, '')), 'B')
        -- The start of a long body: an index entry has a limit of 1 MiB.
        || setweight(to_tsvector(search_config(language), left(body, 100000)), 'C')
    ) STORED,
    CONSTRAINT content_pkey PRIMARY KEY (tenant, content),
    CONSTRAINT content_kind_known CHECK (kind IN ('post', 'project', 'idea', 'page', 'resume')),
    CONSTRAINT content_status_known
        CHECK (status IN ('draft', 'scheduled', 'published', 'unpublished', 'archived'))
);
CREATE INDEX content_by_slug ON content (tenant, site, kind, slug);
CREATE INDEX content_by_date ON content (tenant, site, dated_at, content);
CREATE INDEX content_by_update ON content (tenant, updated_at, content);
CREATE INDEX content_by_tag ON content USING gin (tags);
CREATE INDEX content_by_words ON content USING gin (search);
COMMENT ON TABLE content IS 'Every piece of content in its latest state.';
COMMENT ON COLUMN content.tenant IS 'Whose it is.';
COMMENT ON COLUMN content.content IS 'Its id.';
COMMENT ON COLUMN content.site IS 'The site that it belongs to.';
COMMENT ON COLUMN content.kind IS 'post, project, idea, page or resume.';
COMMENT ON COLUMN content.status IS 'draft, scheduled, published, unpublished or archived.';
COMMENT ON COLUMN content.title IS 'Its title.';
COMMENT ON COLUMN content.slug IS 'Its name in addresses; unique within site and kind among what is not archived.';
COMMENT ON COLUMN content.path IS 'The path of its page, without a slash at the end: metadata.path, or /<kind>/<slug> (of a page /<slug>).';
COMMENT ON COLUMN content.aliases IS 'Further paths of its page, from metadata.aliases, in the same form.';
COMMENT ON COLUMN content.body IS 'Markdown.';
COMMENT ON COLUMN content.summary IS 'Plain text; null when there is none.';
COMMENT ON COLUMN content.tags IS 'In the writer''s order.';
COMMENT ON COLUMN content.featured IS 'Shown first by those who feature things.';
COMMENT ON COLUMN content.language IS 'BCP 47, such as en or pt-BR; null when nobody said.';
COMMENT ON COLUMN content.metadata IS 'Whatever else the writer keeps with it: a JSON object.';
COMMENT ON COLUMN content.published_at IS 'The date that it carries (or last carried) as published; null before.';
COMMENT ON COLUMN content.scheduled_at IS 'When it will be published; null unless it is scheduled.';
COMMENT ON COLUMN content.created_at IS 'When it was drafted.';
COMMENT ON COLUMN content.created_by IS 'The principal that drafted it.';
COMMENT ON COLUMN content.updated_at IS 'Time of its latest event.';
COMMENT ON COLUMN content.updated_by IS 'The principal that caused it; of a scheduled publication, who scheduled it. Null where the log names nobody.';
COMMENT ON COLUMN content.version IS 'Version of the aggregate: events that happened to it.';
COMMENT ON COLUMN content.dated_at IS 'The date that lists are sorted by: published_at, else created_at.';
COMMENT ON COLUMN content.search IS 'Words of title (A), summary (B) and the first 100,000 characters of the body (C), in the forms of its language.';

CREATE TABLE content_versions (
    tenant       uuid NOT NULL,
    content      uuid NOT NULL,
    version      bigint NOT NULL,
    event        text NOT NULL,
    at           timestamptz NOT NULL,
    actor        uuid,
    changed      text[] NOT NULL,
    status       text NOT NULL,
    title        text,
    slug         text,
    body         text,
    summary      text,
    tags         text[],
    featured     boolean,
    language     text,
    metadata     jsonb,
    published_at timestamptz,
    scheduled_at timestamptz,
    tenant_seq   bigint NOT NULL,
    CONSTRAINT content_versions_pkey PRIMARY KEY (tenant, content, version)
);
COMMENT ON TABLE content_versions IS 'Every version of every piece: who changed what, and when. A field is set only where it is named in changed.';
COMMENT ON COLUMN content_versions.tenant IS 'Whose it is.';
COMMENT ON COLUMN content_versions.content IS 'The piece.';
COMMENT ON COLUMN content_versions.version IS 'The version, from 1.';
COMMENT ON COLUMN content_versions.event IS 'What happened: an event''s name on the wire, such as content.revised.v1.';
COMMENT ON COLUMN content_versions.at IS 'When.';
COMMENT ON COLUMN content_versions.actor IS 'The principal that did it; of a scheduled publication, who scheduled it. Null where the log names nobody.';
COMMENT ON COLUMN content_versions.changed IS 'Names of the fields that this version set.';
COMMENT ON COLUMN content_versions.status IS 'Status from this version on.';
COMMENT ON COLUMN content_versions.title IS 'The new title, where it changed.';
COMMENT ON COLUMN content_versions.slug IS 'The new slug, where it changed.';
COMMENT ON COLUMN content_versions.body IS 'The new body, where it changed.';
COMMENT ON COLUMN content_versions.summary IS 'The new summary, where it changed; null also when it was taken away.';
COMMENT ON COLUMN content_versions.tags IS 'The new tags, where they changed.';
COMMENT ON COLUMN content_versions.featured IS 'Whether it is featured, where that changed.';
COMMENT ON COLUMN content_versions.language IS 'The new language, where it changed; null also when it was taken away.';
COMMENT ON COLUMN content_versions.metadata IS 'The new metadata, where they changed.';
COMMENT ON COLUMN content_versions.published_at IS 'The date that it carries from now on, where that changed.';
COMMENT ON COLUMN content_versions.scheduled_at IS 'When it will be published, where that changed; null also when that was called off.';
COMMENT ON COLUMN content_versions.tenant_seq IS 'Its place among all commits of the tenant: the order of the log, which times may not tell.';

CREATE TABLE content_redirects (
    tenant     uuid NOT NULL,
    site       uuid NOT NULL,
    kind       text NOT NULL,
    slug       text NOT NULL,
    content    uuid NOT NULL,
    since      timestamptz NOT NULL,
    tenant_seq bigint NOT NULL,
    CONSTRAINT content_redirects_pkey PRIMARY KEY (tenant, site, kind, slug)
);
COMMENT ON TABLE content_redirects IS 'Old slugs, each with the piece that it leads to, until another piece takes it.';
COMMENT ON COLUMN content_redirects.tenant IS 'Whose it is.';
COMMENT ON COLUMN content_redirects.site IS 'The site.';
COMMENT ON COLUMN content_redirects.kind IS 'The kind of content.';
COMMENT ON COLUMN content_redirects.slug IS 'The old slug.';
COMMENT ON COLUMN content_redirects.content IS 'The piece that had it last.';
COMMENT ON COLUMN content_redirects.since IS 'When that piece gave it up.';
COMMENT ON COLUMN content_redirects.tenant_seq IS 'Where that stands among all commits of the tenant.';
