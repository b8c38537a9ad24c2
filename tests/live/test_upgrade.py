"""PostgreSQL's major version changes: nothing is lost; what fails leaves the old version, what is killed finishes."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import profiles, rendering
from tests.docs.test_followed import Followed
from tests.lab import images as lab_images
from tests.lab.client import fetch
from tests.lab.registry import Registry
from tests.lab.server import MIGRATION, environment_of
from tests.lab.shell import LabError, run

pytestmark = pytest.mark.live

ANSWERS = {"frontends": "", "egress": []}
EXTRA = "Ledger's 2"
FILL = """
CREATE EXTENSION pg_trgm;
CREATE ROLE reporter LOGIN PASSWORD 'what only its hash tells' CONNECTION LIMIT 7;
ALTER ROLE reporter SET work_mem = '9MB';
GRANT shop_app TO reporter;
CREATE DATABASE "Ledger's 2" OWNER reporter;
ALTER DATABASE "Ledger's 2" SET default_transaction_read_only = on;
SELECT lo_from_bytea(4711, decode(repeat('c0ffee', 900000), 'hex'));
CREATE INDEX names ON items USING gin (name gin_trgm_ops);
INSERT INTO items (name) SELECT 'item ' || n FROM generate_series(1, 1000) AS n;
"""
# Not what the script itself compares: whole tables in their order, and what a copy could forget.
LOOK = """
SELECT md5(string_agg(a::text, ',' ORDER BY aid)) FROM pgbench_accounts AS a;
SELECT md5(string_agg(i::text, ',' ORDER BY id)) FROM items AS i;
SELECT md5(lo_get(4711)), nextval('items_id_seq');
SELECT rolname, rolpassword, rolconnlimit, setconfig
FROM pg_authid LEFT JOIN pg_db_role_setting ON setrole = pg_authid.oid
WHERE rolname !~ '^pg_' ORDER BY 1;
SELECT datname, pg_get_userbyid(datdba), datcollate, datacl FROM pg_database WHERE datname <> 'template0' ORDER BY 1;
SELECT r.rolname, m.rolname FROM pg_auth_members JOIN pg_roles r ON r.oid = roleid JOIN pg_roles m ON m.oid = member
WHERE r.rolname !~ '^pg_' ORDER BY 1, 2;
SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1;
SELECT extname FROM pg_extension ORDER BY 1;
"""


class Upgraded(Followed):
    """A server, and how it is moved to other major versions."""

    @property
    def confirmed(self) -> tuple[str, str]:
        """What a person adds who knows what goes away for a while."""
        return "--confirm", self._fact("APP")

    def prepare(self, project: Path) -> None:
        """Take releases from another rendering from now on."""
        self.project = project

    def psql(self, sql: str, database: str = "shop") -> str:
        """Ask the database, several statements at once."""
        command = ("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database)
        container = self.running()["postgres"].id
        return run("docker", "exec", "-i", container, *command, stdin=sql).stdout

    def fill(self) -> str:
        """Put into the database what is not easily taken along; returns what it looks like."""
        self.running()["postgres"].exec("pgbench", "-U", "postgres", "-i", "-q", "-s", "2", "shop")
        self.psql(FILL)
        self.psql(
            "SET default_transaction_read_only = off; CREATE TABLE sums (n) AS SELECT generate_series(1, 10)", EXTRA
        )
        return self.look()

    def look(self) -> str:
        """What must be the same before and after; one sequence goes on by one."""
        told = self.psql(LOOK) + self.psql(
            "SELECT relowner::regrole, (SELECT sum(n) FROM sums) FROM pg_class WHERE relname = 'sums'", EXTRA
        )
        return re.sub(r"(?m)^([0-9a-f]{32}\|)\d+$", r"\1next", told)

    def major(self) -> str:
        """The version that serves."""
        return self.psql("SHOW server_version").split(".")[0]

    def follow(self, begin: str, end: str, release: str) -> str:
        """Paste a part of the runbook in which ``release`` is known."""
        blocks = self.blocks("upgrade-postgres", begin, end)
        assert blocks, begin
        return self.paste(f"release={release}", *blocks, replace=release)

    def upgrade(self, name: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Upgrade to a release by its own script."""
        return self.run(f"releases/{name}/infra/bin/upgrade-postgres", *options, check=check)

    def volumes(self) -> set[str]:
        """The databases' volumes, without what they have in common."""
        listed = run("docker", "volume", "ls", "--quiet", "--filter", f"name={self.name}_postgres_data").stdout
        return {line.removeprefix(f"{self.name}_postgres_data") for line in listed.splitlines()}

    def version(self) -> str:
        """The API that answers users; what else they get."""
        port = self.env["HTTPS_PORT"]
        words = ("--resolve", f"api.localhost:{port}:127.0.0.1", "--write-out", "\n%{http_code}")
        answer = run("curl", "--silent", "--insecure", *words, f"https://api.localhost:{port}/items").stdout
        status = answer.rpartition("\n")[2]
        return str(fetch(self.address(), "/", port=8080).data["version"]) if status == "200" else status


@pytest.fixture
def server(render: Callable[[Mapping[str, Any]], Path], pushed: Callable[..., str]) -> Iterator[Upgraded]:
    """A server with PostgreSQL 15."""
    project = render({**ANSWERS, "postgres_version": 15})
    images = {"API_IMAGE": pushed("api", "1"), "WORKER_IMAGE": pushed("worker", "1"), "CADDY_IMAGE": pushed("caddy")}
    with Upgraded(project, images | {"POSTGRES_IMAGE": pushed("postgres:15")}, environment_of(project)) as here:
        here.release("first")
        here.deploy("first", "--new-database")  # other tests may leave volumes on this engine
        yield here


@pytest.fixture
def newer(source: Path, tmp_path: Path) -> Callable[[Upgraded, int], None]:
    """`newer(server, 17)`: its next releases are those of a project that answers another version."""

    def render(server: Upgraded, major: int) -> None:
        answers = {**profiles.REQUIRED, "compose_project": server.name, **ANSWERS, "postgres_version": major}
        server.prepare(rendering.render(source, tmp_path / f"with-{major}", answers))

    return render


def test_everything_is_the_same_in_the_next_version_and_the_one_after(
    server: Upgraded, newer: Callable[[Upgraded, int], None], pushed: Callable[..., str]
) -> None:
    before = server.fill()
    confirm = server.confirmed
    newer(server, 17)
    server.release("next", POSTGRES_IMAGE=pushed("postgres:17"), API_IMAGE=pushed("api", "2"))
    told = server.deploy("next", check=False)
    assert told.returncode == 1
    assert f"{server.folder}/releases/next/infra/bin/upgrade-postgres --dry-run next" in told.stdout
    assert "Nothing was changed" in server.follow("## 2", "## 3", "next")
    assert server.major() == "15"
    told = server.upgrade("next", check=False)
    assert told.returncode == 1
    assert f"--confirm {confirm[1]}" in told.stderr
    assert server.volumes() == {""}

    shown = server.follow("## 3", "## 4", "next")
    assert re.search(r"PostgreSQL 17 serves, with release next\. Users .* page for \d+\.\d s\.", shown)
    assert (server.major(), server.version()) == ("17", "2")
    assert server.look() == before
    assert server.volumes() == {"", "_17"}
    assert server.history()[-2:] == [["deploy", "first", "next", "ok"], ["postgres-17", "first", "next", "ok"]]
    statistics = "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'pgbench_accounts'"
    assert server.psql(statistics) == "t\n"

    refused = server.script("rollback", "first", check=False)
    assert "the data was written by 17" in refused.stderr
    server.deploy("next")  # an ordinary one finds the new volume
    assert server.look() == before

    # 18 keeps its data in another folder of the volume.
    newer(server, 18)
    server.release("last", POSTGRES_IMAGE=pushed("postgres:18"), API_IMAGE=pushed("api", "3"))
    told = server.upgrade("last", *confirm, check=False)
    assert "--remove-old" in told.stdout
    server.follow("## 5", "\\Z", "next")
    assert server.volumes() == {"_17"}
    server.upgrade("last", *confirm)
    assert (server.major(), server.version()) == ("18", "3")
    assert server.look() == before

    server.psql("INSERT INTO items (name) VALUES ('left behind')")
    assert "stays behind in" in server.script("upgrade-postgres", "--back", check=False).stderr
    server.follow("## 4", "## 5", "last")
    assert (server.major(), server.version(), server.live()[0]) == ("17", "2", "next")
    assert server.look() == before
    assert server.volumes() == {"_17", "_18"}
    # The migration went with the volume: the next deploy must not take it for applied.
    assert "unchanged since it was last applied" not in server.deploy("next").stdout


def test_what_fails_or_is_killed_leaves_the_old_version_or_finishes(
    server: Upgraded,
    newer: Callable[[Upgraded, int], None],
    pushed: Callable[..., str],
    registry: Registry,
) -> None:
    before = server.fill()
    confirm = server.confirmed
    containers = {name: container.id for name, container in server.running().items()}
    newer(server, 17)
    image = pushed("postgres:17")
    line = "RUN rm /usr/share/postgresql/17/extension/pg_trgm.control"
    lacking = lab_images.derive(image, "postgres-lacking:17", line)
    server.release("lacking", POSTGRES_IMAGE=registry.push(lacking, "shop/postgres-lacking", "17"))
    told = server.upgrade("lacking", *confirm, check=False)
    assert "the extension pg_trgm of the database shop is not in the image of PostgreSQL 17" in told.stdout
    assert {name: container.id for name, container in server.running().items()} == containers

    # One row less than there was, and nobody else would have noticed.
    restore = (
        '/usr/lib/postgresql/17/bin/pg_restore "$@" && psql -q -d shop -c "DELETE FROM items WHERE id = 7" || true'
    )
    script = " ".join(shlex.quote(line) for line in ("#!/bin/bash", restore))
    line = (
        f"RUN rm /usr/bin/pg_restore && printf '%s\\n' {script} > /usr/bin/pg_restore && chmod 755 /usr/bin/pg_restore"
    )
    lossy = lab_images.derive(image, "postgres-lossy:17", line)
    server.release("lossy", POSTGRES_IMAGE=registry.push(lossy, "shop/postgres-lossy", "17"))
    told = server.upgrade("lossy", *confirm, check=False)
    assert told.returncode == 1
    assert re.search(r"< public\.items\|1000\|\d+\n.*\n.*> public\.items\|999\|", told.stdout)
    assert "PostgreSQL 15 and release first serve again" in told.stdout
    serves_as_before(server, before)

    # It fails as late as it can: the copy is complete, the new version runs.
    broken = MIGRATION + "SELECT 1/0;\n"
    server.release("broken", POSTGRES_IMAGE=image, API_IMAGE=pushed("api", "2"), migration=broken)
    told = server.upgrade("broken", *confirm, check=False)
    assert told.returncode == 1
    assert "PostgreSQL 15 and release first serve again" in told.stdout
    serves_as_before(server, before)
    assert server.history()[-1] == ["postgres-17", "first", "broken", "failed"]

    server.release("next", POSTGRES_IMAGE=image, API_IMAGE=pushed("api", "2"))
    kill(server, server.start("releases/next/infra/bin/upgrade-postgres", *confirm), "Copy databases")
    assert server.version() == "503"
    assert "an upgrade of PostgreSQL was interrupted" in server.deploy("first", check=False).stdout
    server.upgrade("next", "--back")
    serves_as_before(server, before)

    kill(server, server.start("releases/next/infra/bin/upgrade-postgres", *confirm), "Try the new images")
    assert server.version() == "503"
    server.upgrade("next", *confirm)
    assert (server.major(), server.version(), server.live()[0]) == ("17", "2", "next")
    assert server.look() == before


def serves_as_before(server: Upgraded, look: str) -> None:
    """Expect the old version, the old release, all that was there, and nothing left of the attempt."""
    assert (server.major(), server.version(), server.live()[0]) == ("15", "1", "first")
    assert server.look() == look
    assert server.volumes() == {""}


def kill(server: Upgraded, running: subprocess.Popen[str], words: str) -> None:
    """Kill everything that an upgrade has begun, as a power cut would, once it says ``words``."""
    assert running.stdout is not None
    for line in running.stdout:
        if words in line:
            break
    else:
        raise LabError(f"{words!r} never came")
    holder = (server.folder / "state/lock.holder").read_text(encoding="utf-8").split()[0]
    run("pkill", "-KILL", "--session", holder)
    running.wait(timeout=30)
