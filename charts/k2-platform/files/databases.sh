#!/bin/bash
# Creates missing users and databases, and sets the users' passwords from their Secrets. It runs at every start of the server,
# so the next start repairs an interrupted first start and applies a registry enabled later or a changed password.
set -euo pipefail

until pg_isready --quiet --host 127.0.0.1; do sleep 1; done

# database NAME SECRET: create a database and its owner from the Secret's files
database() {
  DATABASE=$1 OWNER=$(< "/etc/k2/$2/username") OWNER_PASSWORD=$(< "/etc/k2/$2/password") \
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
\getenv database DATABASE
\getenv owner OWNER
\getenv password OWNER_PASSWORD
SELECT format('CREATE ROLE %I', :'owner') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
ALTER ROLE :"owner" LOGIN PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
ALTER DATABASE :"database" OWNER TO :"owner";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
}

SUPERUSER_PASSWORD=$(< /etc/k2/postgres/password) \
  psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<'SQL'
\getenv password SUPERUSER_PASSWORD
ALTER ROLE postgres PASSWORD :'password';
SQL
if [[ -d /etc/k2/catalog ]]; then database iceberg catalog; fi

# reader DATABASE SECRET OWNERS_SECRET: a user that may read every table of a database, also those that its owner makes later, and write none
reader() {
  READER=$(< "/etc/k2/$2/username") READER_PASSWORD=$(< "/etc/k2/$2/password") OWNER=$(< "/etc/k2/$3/username") \
    psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname "$1" <<'SQL'
\getenv reader READER
\getenv password READER_PASSWORD
\getenv owner OWNER
SELECT format('CREATE ROLE %I', :'reader') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'reader') \gexec
ALTER ROLE :"reader" LOGIN PASSWORD :'password';
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'reader') \gexec
GRANT USAGE ON SCHEMA public TO :"reader";
GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT ON TABLES TO :"reader";
SQL
}

if [[ -d /etc/k2/catalog-query ]]; then reader iceberg catalog-query catalog; fi
if [[ -d /etc/k2/registry ]]; then database registry registry; fi
