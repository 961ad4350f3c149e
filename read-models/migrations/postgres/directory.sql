-- The tables of one generation of the projection "directory": who and what exists.
-- A template: run with the generation's schema as the search path. A change makes a new generation.

CREATE TABLE tenants (
    tenant     uuid NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant)
);
CREATE INDEX tenants_by_name ON tenants (name);
COMMENT ON TABLE tenants IS 'Who owns data.';
COMMENT ON COLUMN tenants.tenant IS 'The tenant''s id.';
COMMENT ON COLUMN tenants.name IS 'As operators call it; unique in the installation.';
COMMENT ON COLUMN tenants.created_at IS 'When it was created.';
COMMENT ON COLUMN tenants.version IS 'Version of the aggregate: events that happened to it.';

CREATE TABLE sites (
    tenant     uuid NOT NULL,
    site       uuid NOT NULL,
    domain     text NOT NULL,
    name       text,
    timezone   text NOT NULL,
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    CONSTRAINT sites_pkey PRIMARY KEY (tenant, site)
);
CREATE INDEX sites_by_domain ON sites (domain);
COMMENT ON TABLE sites IS 'Sites of tenants.';
COMMENT ON COLUMN sites.tenant IS 'Whose site it is.';
COMMENT ON COLUMN sites.site IS 'The site''s id.';
COMMENT ON COLUMN sites.domain IS 'Its domain, lower case, ASCII; unique in the installation.';
COMMENT ON COLUMN sites.name IS 'As people call it; null when nobody said.';
COMMENT ON COLUMN sites.timezone IS 'IANA name; days of its statistics are days there.';
COMMENT ON COLUMN sites.created_at IS 'When it was created.';
COMMENT ON COLUMN sites.version IS 'Version of the aggregate: events that happened to it.';

CREATE TABLE principals (
    tenant     uuid NOT NULL,
    principal  uuid NOT NULL,
    name       jsonb,
    created_at timestamptz NOT NULL,
    version    bigint NOT NULL,
    CONSTRAINT principals_pkey PRIMARY KEY (tenant, principal)
);
COMMENT ON TABLE principals IS 'People and programs that act for a tenant.';
COMMENT ON COLUMN principals.tenant IS 'For whom it acts.';
COMMENT ON COLUMN principals.principal IS 'Its id; events name it as their actor.';
COMMENT ON COLUMN principals.name IS 'What people call it, sealed as in the log: {kid, alg, nonce, ct}.';
COMMENT ON COLUMN principals.created_at IS 'When it was created.';
COMMENT ON COLUMN principals.version IS 'Version of the aggregate: events that happened to it.';

CREATE TABLE keys (
    tenant      uuid NOT NULL,
    key         text NOT NULL,
    principal   uuid NOT NULL,
    secret_hash text NOT NULL,
    scopes      text[] NOT NULL,
    issued_at   timestamptz NOT NULL,
    revoked_at  timestamptz,
    version     bigint NOT NULL,
    CONSTRAINT keys_pkey PRIMARY KEY (tenant, key)
);
CREATE INDEX keys_by_key ON keys (key);
COMMENT ON TABLE keys IS 'API keys; a secret is nowhere, only its hash.';
COMMENT ON COLUMN keys.tenant IS 'Whose key it is.';
COMMENT ON COLUMN keys.key IS 'Its public half.';
COMMENT ON COLUMN keys.principal IS 'For whom it was made.';
COMMENT ON COLUMN keys.secret_hash IS 'SHA-256 of the secret, 64 hexadecimal digits.';
COMMENT ON COLUMN keys.scopes IS 'What it may do, such as content:write.';
COMMENT ON COLUMN keys.issued_at IS 'When it was made.';
COMMENT ON COLUMN keys.revoked_at IS 'When it was revoked; null while it works.';
COMMENT ON COLUMN keys.version IS 'Version of the aggregate: events that happened to it.';
