-- What must be destroyable, and so is not in the log.
-- Every secret is wrapped with the installation's master key (XChaCha20-Poly1305: 24 bytes of nonce, then
-- ciphertext and tag), so that a copy of these tables alone opens nothing.
-- A deleted row lives on in backups and in the write-ahead log: keep those of this database no longer than
-- what was erased may be remembered.

CREATE SCHEMA IF NOT EXISTS keystore;

-- One secret of the installation: keys the hashes of idempotency keys, and tells a wrong master key at start.
CREATE TABLE keystore.installation (
    one        boolean PRIMARY KEY DEFAULT true CONSTRAINT installation_is_one_row CHECK (one),
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The salt of the visitor ids of one day (UTC, the day of the visit). Void and deleted 48 hours after its making.
CREATE TABLE keystore.day_salts (
    day        date PRIMARY KEY,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The salt of the visitor ids of one import; deleted when the import is complete.
CREATE TABLE keystore.import_salts (
    import_id  uuid PRIMARY KEY,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The key of a subject's personal fields. Destroying it erases them wherever their sealed form stands.
CREATE TABLE keystore.subject_keys (
    kid          uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    subject      uuid NOT NULL,
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CONSTRAINT subject_has_one_key UNIQUE (tenant_id, subject),
    CONSTRAINT destroyed_means_gone CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
