-- Roles of the database, made again as often as wanted:
--   <database>_owner  owns the schema and runs migrations
--   <database>_app    reads and writes rows, and cannot change the schema
-- Runs by itself on a new volume; on an existing or a managed database, run the service `roles`.
-- Passwords come from the environment, never from an argument that a process list would show.
\set ON_ERROR_STOP on
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv app_password POSTGRES_APP_PASSWORD

SELECT current_database() AS database,
       current_database() || '_owner' AS owner,
       current_database() || '_app' AS app,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
\gset

-- Keeps passwords out of the server's log and statistics. Only a superuser may, and a managed database logs no statements by default.
\if :superuser
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_duration_sample = -1;
SET log_transaction_sample_rate = 0;
SET log_min_error_statement = 'panic';
SET pg_stat_statements.track_utility = off;
\endif

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'owner', :'app']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

ALTER ROLE :"owner" PASSWORD :'owner_password';
ALTER ROLE :"app" PASSWORD :'app_password';

-- An administrator who is no superuser acts for the owner as its member.
\if :superuser
\else
GRANT :"owner" TO CURRENT_USER;
\endif

REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE :"database" TO :"owner";
GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO :"app";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO :"owner";

-- Adopts what an earlier set-up created as the administrator. Members of extensions stay with the extension.
SELECT format('ALTER SCHEMA %I OWNER TO %I', nspname, :'owner')
FROM pg_namespace
WHERE nspowner = current_user::regrole
  AND nspname NOT IN ('public', 'information_schema')
  AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass AND objid = pg_namespace.oid AND deptype = 'e')
\gexec

SELECT format('ALTER %s %s OWNER TO %I',
              CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                           WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
              c.oid::regclass, :'owner')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE relowner = current_user::regrole
  AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND nspname <> 'information_schema'
  AND nspname !~ '^pg_'
  -- A sequence of a column follows its table ('a', 'i'); a member of an extension stays ('e').
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid
                  AND (deptype = 'e' OR (relkind = 'S' AND deptype IN ('a', 'i') AND refclassid = 'pg_class'::regclass)))
ORDER BY relkind <> 'r'
\gexec

SELECT format('ALTER ROUTINE %s OWNER TO %I', p.oid::regprocedure, :'owner')
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE proowner = current_user::regrole
  AND nspname <> 'information_schema'
  AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
\gexec

SELECT format('ALTER TYPE %s OWNER TO %I', t.oid::regtype, :'owner')
FROM pg_type AS t
JOIN pg_namespace AS n ON n.oid = t.typnamespace
WHERE typowner = current_user::regrole
  -- Enums, domains and ranges, and composite types that are no table's row.
  AND (typtype IN ('e', 'd', 'r')
       OR (typtype = 'c' AND EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c')))
  AND nspname <> 'information_schema'
  AND nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e')
\gexec

-- Rows for the application: in everything that exists, except what extensions and a provider keep for themselves, and in
-- everything that a migration will make.
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, :'app')
FROM pg_namespace
WHERE nspname <> 'information_schema'
  AND nspname !~ '^pg_'
  AND pg_has_role(current_user, nspowner, 'USAGE')
\gexec

SELECT format(CASE relkind WHEN 'S' THEN 'GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO %I'
                           ELSE 'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %I' END, c.oid::regclass, :'app')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  AND nspname <> 'information_schema'
  AND nspname !~ '^pg_'
  AND pg_has_role(current_user, relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
\gexec

ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT USAGE ON SCHEMAS TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO :"app";
