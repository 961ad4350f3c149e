#!/usr/bin/env bash
# Runs once, on an empty volume (docker-entrypoint-initdb.d): the same roles as deploy/local/engines makes.
set -euo pipefail
psql --no-psqlrc -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv owner ANNALS_OWNER_PASSWORD
\getenv reader ANNALS_READER_PASSWORD
\getenv keystore ANNALS_KEYSTORE_PASSWORD
CREATE ROLE annals LOGIN PASSWORD :'owner';
CREATE ROLE annals_reader LOGIN PASSWORD :'reader';
CREATE ROLE annals_keystore LOGIN PASSWORD :'keystore';

-- Keys that must be destroyable live in a database of their own, with backups of its own.
CREATE DATABASE annals_keystore OWNER annals_keystore;
REVOKE CONNECT, TEMPORARY ON DATABASE annals_keystore FROM PUBLIC;

CREATE DATABASE annals OWNER annals;
REVOKE CONNECT, TEMPORARY ON DATABASE annals FROM PUBLIC;
GRANT CONNECT ON DATABASE annals TO annals_reader;

\connect annals
-- Whatever the owner makes, the reader may read: generations of read models come and go as schemas.
ALTER DEFAULT PRIVILEGES FOR ROLE annals GRANT USAGE ON SCHEMAS TO annals_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE annals GRANT SELECT ON TABLES TO annals_reader;
SQL
