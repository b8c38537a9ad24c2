"""Two roles: the owner changes the schema, the application changes rows."""

# ruff: noqa: S608 - the statements are made of names that this file makes up.

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.database.server import ADMINISTRATOR, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def database(server: Server) -> str:
    """A new database, as the image makes it for POSTGRES_DB."""
    name = f"shop{next(NUMBER)}"
    server.psql("postgres", f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def prepared(server: Server, database: str) -> str:
    """A database in which the roles exist and a migration has run."""
    server.make_roles(database)
    server.psql(
        database,
        """CREATE TABLE item (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
           CREATE TABLE numbered (id serial PRIMARY KEY);
           CREATE VIEW names AS SELECT name FROM item;
           CREATE SCHEMA stock;
           CREATE TABLE stock.place (id int PRIMARY KEY);
           CREATE SEQUENCE stock.ticket;""",
        user=f"{database}_owner",
    )
    return database


def test_neither_role_is_more_than_its_task_needs(server: Server, database: str) -> None:
    server.make_roles(database)
    attributes = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin"
    for role in ("owner", "app"):
        row = server.value(database, f"SELECT {attributes} FROM pg_roles WHERE rolname = '{database}_{role}'")
        assert row == "f|f|f|f|f|t"
    member = """SELECT count(*) FROM pg_auth_members
                WHERE member IN (SELECT oid FROM pg_roles WHERE rolname ~ '_(owner|app)$')"""
    assert server.value(database, member) == "0"


def test_each_role_logs_in_with_its_own_password_only(server: Server, database: str) -> None:
    server.make_roles(database, owner_password="first", app_password="second")
    for role, password, other in (("owner", "first", "second"), ("app", "second", "first")):
        user = f"{database}_{role}"
        assert server.psql(database, "SELECT current_user", user=user, password=password).stdout.strip() == user
        assert "password authentication failed" in (
            server.psql(database, "SELECT 1", user=user, password=other, check=False).stderr
        )


def test_the_application_reads_and_writes_what_a_later_migration_makes(server: Server, prepared: str) -> None:
    app = f"{prepared}_app"
    statements = """
        INSERT INTO item (name) VALUES ('one'), ('two');
        UPDATE item SET name = 'three' WHERE name = 'two';
        DELETE FROM item WHERE name = 'one';
        INSERT INTO numbered DEFAULT VALUES;
        INSERT INTO stock.place VALUES (nextval('stock.ticket'));
        CREATE TEMPORARY TABLE scratch (id int);
    """
    server.psql(prepared, statements, user=app)
    assert server.value(prepared, "SELECT name FROM names", user=app) == "three"
    assert server.value(prepared, "SELECT id FROM stock.place", user=app) == "1"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (id int)",
        "CREATE TABLE stock.more (id int)",
        "CREATE SCHEMA more",
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION pg_trgm",
        "CREATE INDEX ON item (name)",
        "CREATE ROLE more",
        "ALTER TABLE item ADD COLUMN more int",
        "ALTER TABLE item DISABLE TRIGGER ALL",
        "DROP TABLE item",
        "DROP SCHEMA stock CASCADE",
        "TRUNCATE item",
        "GRANT SELECT ON item TO PUBLIC",
        "COPY item TO PROGRAM 'true'",
        "ALTER SYSTEM SET work_mem = '1GB'",
    ],
)
def test_the_application_cannot_change_the_schema(server: Server, prepared: str, statement: str) -> None:
    app = f"{prepared}_app"
    grants = (
        "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'PUBLIC' AND table_name = 'item'"
    )
    told = server.psql(prepared, statement, user=app, check=False)
    if statement.startswith("GRANT"):
        # PostgreSQL only warns when a grant comes from somebody who has nothing to grant.
        assert "no privileges were granted" in told.stderr
        assert server.value(prepared, grants) == "0"
    else:
        assert told.returncode != 0
        assert re.search("permission denied|must be (owner|superuser)|must be superuser", told.stderr), told.stderr


def test_the_application_cannot_become_the_owner_or_the_administrator(server: Server, prepared: str) -> None:
    for role in (f"{prepared}_owner", ADMINISTRATOR):
        assert "permission denied" in server.problem(prepared, f"SET ROLE {role}", user=f"{prepared}_app")


def test_the_owner_changes_the_schema_but_is_no_administrator(server: Server, prepared: str) -> None:
    owner = f"{prepared}_owner"
    statements = """
        ALTER TABLE item ADD COLUMN price numeric;
        CREATE INDEX ON item (price);
        CREATE TYPE mood AS ENUM ('good');
        CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE SCHEMA billing;
        CREATE TABLE billing.invoice (id int);
        DROP TABLE numbered;
        TRUNCATE item;
    """
    server.psql(prepared, statements, user=owner)
    for statement in (
        "CREATE ROLE more",
        "CREATE DATABASE more",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "COPY item TO PROGRAM 'true'",
    ):
        server.problem(prepared, statement, user=owner)


def test_nobody_else_may_connect_or_make_tables(server: Server, prepared: str) -> None:
    stranger = f"stranger_of_{prepared}"
    server.psql(prepared, f"CREATE ROLE {stranger} LOGIN")
    assert "permission denied for database" in server.problem(prepared, "SELECT 1", user=stranger)
    server.psql(prepared, f"GRANT CONNECT ON DATABASE {prepared} TO {stranger}")
    assert "permission denied for schema public" in server.problem(prepared, "CREATE TABLE x (id int)", user=stranger)
    assert "permission denied for table item" in server.problem(prepared, "SELECT FROM item", user=stranger)


def state(server: Server, database: str) -> str:
    """Describe owners and rights of everything in a database."""
    return server.value(
        database,
        """SELECT 'relation', oid::regclass::text, relowner::regrole, relacl::text FROM pg_class WHERE oid >= 16384
           UNION ALL SELECT 'schema', nspname, nspowner::regrole, nspacl::text FROM pg_namespace
           UNION ALL SELECT 'routine', oid::regprocedure::text, proowner::regrole, proacl::text FROM pg_proc
                     WHERE oid >= 16384
           UNION ALL SELECT 'type', oid::regtype::text, typowner::regrole, typacl::text FROM pg_type WHERE oid >= 16384
           UNION ALL SELECT 'default', defaclobjtype::text, defaclrole::regrole, defaclacl::text FROM pg_default_acl
           UNION ALL SELECT 'database', datname, datdba::regrole, datacl::text FROM pg_database
                     WHERE datname = current_database()
           ORDER BY 1, 2, 3""",
    )


def test_a_repeated_run_changes_nothing_but_the_passwords(server: Server, prepared: str) -> None:
    before = state(server, prepared)
    server.make_roles(prepared, owner_password="new-owner", app_password="new-app")
    assert state(server, prepared) == before
    assert server.psql(prepared, "SELECT 1", user=f"{prepared}_app", password="new-app").stdout.strip() == "1"
    refused = server.psql(prepared, "SELECT 1", user=f"{prepared}_app", password="app-secret", check=False)
    assert "password authentication failed" in refused.stderr


GROWN = """
    CREATE TABLE item (id serial PRIMARY KEY, name text);
    CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE "Quoted ""Table" (id bigint GENERATED ALWAYS AS IDENTITY);
    CREATE SEQUENCE ticket;
    CREATE VIEW names AS SELECT name FROM item;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM item;
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TYPE pair AS (a int, b int);
    CREATE TYPE span AS RANGE (subtype = int4);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE FUNCTION one(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE PROCEDURE work() LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
    CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touched BEFORE UPDATE ON item FOR EACH ROW EXECUTE FUNCTION touched();
    CREATE SCHEMA "Stock";
    CREATE TABLE "Stock"."Place" (id int PRIMARY KEY, item int REFERENCES item, mood mood);
    CREATE TABLE "__EFMigrationsHistory" ("MigrationId" varchar(150) PRIMARY KEY, "ProductVersion" varchar(32));
    INSERT INTO item (name) VALUES ('kept');
"""


def owned_by(server: Server, database: str, role: str) -> str:
    """Name what a role owns in a database, the database itself and extensions' members excepted."""
    return server.value(
        database,
        f"""SELECT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND refobjid = '{role}'::regrole AND deptype = 'o' ORDER BY 1""",
    )


def test_what_an_earlier_set_up_made_as_the_administrator_becomes_the_owners(server: Server, database: str) -> None:
    server.psql(database, GROWN)
    server.make_roles(database)
    for query in (
        f"SELECT oid::regclass FROM pg_class WHERE oid >= 16384 AND relowner <> '{database}_owner'::regrole",
        f"SELECT oid::regprocedure FROM pg_proc WHERE oid >= 16384 AND proowner <> '{database}_owner'::regrole",
        f"SELECT oid::regtype FROM pg_type WHERE oid >= 16384 AND typowner <> '{database}_owner'::regrole",
        f"SELECT nspname FROM pg_namespace WHERE oid >= 16384 AND nspowner <> '{database}_owner'::regrole",
    ):
        # What is not the owner's is none of the application's: tables of large values are the server's own.
        # A multirange comes with its range and cannot be altered by itself in every version.
        named = server.value(database, query).splitlines()
        left = [name for name in named if not name.startswith("pg_toast") and "_multirange" not in name]
        assert left == []
    changed = """
        ALTER TABLE item ADD COLUMN price int;
        ALTER TYPE mood ADD VALUE 'so so';
        ALTER SEQUENCE ticket CACHE 5;
        ALTER TABLE "Stock"."Place" ADD note text;
        REFRESH MATERIALIZED VIEW counted;
        DROP VIEW names;
        INSERT INTO "__EFMigrationsHistory" VALUES ('1', '10');
    """
    server.psql(database, changed, user=f"{database}_owner")
    used = """
        INSERT INTO item (name) VALUES ('new');
        INSERT INTO "Stock"."Place" VALUES (1, 1, 'good');
        UPDATE item SET price = 1;
        INSERT INTO parted VALUES (1, '2026-05-05');
        SELECT nextval('ticket');
        INSERT INTO "Quoted ""Table" DEFAULT VALUES;
    """
    server.psql(database, used, user=f"{database}_app")
    server.problem(database, "ALTER TABLE item DROP COLUMN name", user=f"{database}_app")


def test_members_of_extensions_stay_with_the_extension(server: Server, database: str) -> None:
    made = "CREATE EXTENSION hstore; CREATE SCHEMA search; CREATE EXTENSION pg_trgm SCHEMA search;"
    server.psql(database, f"{made} CREATE EXTENSION pg_buffercache;")
    server.make_roles(database)
    adopted = owned_by(server, database, f"{database}_owner").splitlines()
    assert [name for name in adopted if not name.startswith("default privileges")] == ["schema search"]
    assert server.value(database, "SELECT 'a=>1'::hstore -> 'a'", user=f"{database}_app") == "1"
    assert "permission denied" in server.problem(database, "SELECT FROM pg_buffercache", user=f"{database}_app")


PASSWORDS = [
    "plain",
    'it\'s "quoted"',
    "back\\slash\\",
    "$dollar$ ${HOME} $$",
    ":'app' :\"owner\" :app",
    "percent %I %s",
    "Ünïcödé ☃",
    "semi;colon -- comment",
    "x" * 200,
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_is_taken_literally(server: Server, database: str, password: str) -> None:
    server.make_roles(database, owner_password=password, app_password=password + "2")
    for role, secret in (("owner", password), ("app", password + "2")):
        assert server.psql(database, "SELECT 1", user=f"{database}_{role}", password=secret).stdout.strip() == "1"


@pytest.mark.parametrize("missing", ["owner_password", "app_password"])
def test_a_missing_password_stops_the_script_before_it_could_be_empty(
    server: Server, database: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSTGRES_OWNER_PASSWORD", raising=False)
    monkeypatch.delenv("POSTGRES_APP_PASSWORD", raising=False)
    passwords = {"owner_password": "a", "app_password": "b", missing: None}
    told = server.make_roles(database, **passwords, check=False)  # type: ignore[arg-type]
    assert told.returncode != 0


def test_no_password_reaches_the_servers_log(server: Server, database: str) -> None:
    server.make_roles(database, owner_password="needle-in-the-haystack", app_password="another-needle")
    server.make_roles(database, owner_password="needle-in-the-haystack", app_password="another-needle")
    told = server.make_roles(database, owner_password="needle-in-the-haystack", app_password=None, check=False)
    assert told.returncode != 0
    server.psql(database, "SELECT 'the log is read'")
    assert "the log is read" in server.log()
    assert "needle" not in server.log()


def test_a_password_that_the_server_refuses_does_not_reach_its_log_either(server: Server, database: str) -> None:
    server.psql(database, f"ALTER DATABASE {database} SET session_preload_libraries = 'passwordcheck'")
    told = server.make_roles(database, owner_password="short-p", check=False)
    assert "password is too short" in told.stderr
    server.psql(database, "SELECT 'the log is read again'")
    assert "the log is read again" in server.log()
    assert "short-p" not in server.log()


def test_a_database_from_before_version_15_closes_its_public_schema(server: Server, database: str) -> None:
    server.psql(database, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    server.make_roles(database)
    assert "permission denied" in server.problem(database, "CREATE TABLE x (id int)", user=f"{database}_app")


@pytest.fixture
def managed(server: Server) -> tuple[str, str]:
    """A database as a provider hands it over: its administrator may make roles but is no superuser."""
    name = f"managed{next(NUMBER)}"
    administrator = f"{name}_admin"
    server.psql(
        "postgres",
        f"CREATE ROLE {administrator} LOGIN CREATEROLE CREATEDB; CREATE DATABASE {name} OWNER {administrator}",
    )
    return name, administrator


def test_a_managed_databases_administrator_who_is_no_superuser_can_run_it(
    server: Server, managed: tuple[str, str]
) -> None:
    database, administrator = managed
    server.psql(database, GROWN, user=administrator)
    server.make_roles(database, user=administrator)
    server.make_roles(database, user=administrator)
    assert owned_by(server, database, administrator) in {"", "type span_multirange"}
    server.psql(database, "CREATE TABLE later (id serial)", user=f"{database}_owner")
    server.psql(database, "INSERT INTO later DEFAULT VALUES; UPDATE item SET name = 'x'", user=f"{database}_app")
    server.problem(database, "DROP TABLE later", user=f"{database}_app")
    server.problem(database, "CREATE TABLE more (id int)", user=f"{database}_app")


def test_what_belongs_to_the_provider_is_left_alone(server: Server, managed: tuple[str, str]) -> None:
    database, administrator = managed
    providers = """CREATE EXTENSION pg_buffercache; CREATE SCHEMA provider; CREATE TABLE provider.secret (id int);
                   CREATE TABLE public.internal (id int);"""
    server.psql(database, providers)
    server.make_roles(database, user=administrator)
    assert (
        server.value(database, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'provider'") == ADMINISTRATOR
    )
    for table in ("provider.secret", "internal", "pg_buffercache"):
        assert "permission denied" in server.problem(database, f"SELECT FROM {table}", user=f"{database}_app")
