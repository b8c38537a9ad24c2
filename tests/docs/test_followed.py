"""The runbooks, followed on a real engine: every line that is pasted on the server is run as it stands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.docs import reading
from tests.lab.client import fetch
from tests.lab.place import free_port
from tests.lab.shell import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.live

COMPOSE = "docker compose -f infra/docker-compose.prod.yml"
MIGRATION = """
START TRANSACTION;
CREATE TABLE IF NOT EXISTS items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE IF NOT EXISTS "__EFMigrationsHistory" ("MigrationId" varchar(150) PRIMARY KEY);
COMMIT;
"""
# Stands in where rsync is not installed: a tree is made equal to another one, its own .env excepted.
RSYNC = """
command -v rsync >/dev/null || rsync() {
  local from=${*: -2:1} to=${*: -1}
  find "$to" -mindepth 1 -maxdepth 1 ! -name .env -exec rm -rf {} +
  cp -a "$from." "$to"
}
"""


class Server:
    """A project's folder on a server, and somebody who pastes runbooks there."""

    def __init__(self, folder: Path, project: Path, images: dict[str, str]) -> None:
        """Make the folders that "Provision a server" makes, and `.env` with the block of "The first hour"."""
        self.folder, self.project, self.images = folder, project, images
        for name in ("infra", "releases", "state", "backups"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        shutil.copy(project / ".env.example", folder)
        self.paste(self.block("first-hour", "noclobber"), check=False)
        with (folder / ".env").open("a", encoding="utf-8") as file:
            # Nobody answers at the directory: certificates are not what these tests are about.
            file.write(
                f"HTTP_PORT={free_port()}\nHTTPS_PORT={free_port()}\nACME_DIRECTORY=https://127.0.0.1:9/directory\n"
            )

    def block(self, runbook: str, words: str) -> str:
        """Return the one block with these words."""
        found = [code for code in self.blocks(runbook) if words in code]
        assert len(found) == 1, (words, found)
        return found[0]

    def blocks(self, runbook: str, begin: str = "# ", end: str = "\\Z") -> list[str]:
        """Return the server's blocks of a runbook, in order, from one heading to another."""
        path = self.project / "docs" / "runbooks" / f"{runbook}.md"
        text = path.read_text(encoding="utf-8")
        section = re.search(f"^{begin}.*?(?=^{end}|\\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, begin
        found = [each.code for each in reading.blocks(path) if each.place == "deploy"]
        return [code for code in found if code in section.group()]

    def paste(self, *blocks: str, check: bool = True, replace: str = "") -> str:
        """Run blocks in one shell. What cannot be here is left out: the folder's name, the registry, the long wait.

        Args:
            blocks: What is pasted.
            check: Whether to stop at a line that fails, and fail.
            replace: What stands where the runbook says REPLACE_WITH_….
        """
        code = "\n".join(blocks).replace("sleep 30", "sleep 12")
        code = re.sub(r"^cd /opt/\S+$", f"cd {self.folder}", code, flags=re.MULTILINE)
        code = re.sub(r"^docker (login|logout) .*$|^docker compose .* pull$|^df .*$", "", code, flags=re.MULTILINE)
        # Tells a difference by its exit code too, which is no failure.
        code = re.sub(r"^(diff (?:.*\\\n)?.*)$", r"\1 || true", code, flags=re.MULTILINE)
        code = re.sub(r"REPLACE_WITH_\w+", replace or "REPLACE_", code)
        assert "REPLACE_" not in code, code
        done = subprocess.run(
            ["bash", "-c", f"{RSYNC}\nset -e\n{code}" if check else f"{RSYNC}\n{code}"],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0 or not check, (
            f"{code}\n--- stdout ---\n{done.stdout}\n--- stderr ---\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def release(self, name: str, **images: str) -> None:
        """Send a release, as steps 1 and 2 do."""
        folder = self.folder / "releases" / name
        shutil.copytree(self.project / "infra", folder / "infra")
        (folder / "infra/migrations").mkdir()
        (folder / "infra/migrations/migrate.sql").write_text(MIGRATION, encoding="utf-8")
        lines = [f"{variable}={reference}\n" for variable, reference in {**self.images, **images}.items()]
        (folder / "release.env").write_text("# of a test\n" + "".join(lines), encoding="utf-8")

    def running(self) -> dict[str, str]:
        """Return the id of each service's container."""
        told = self.paste(f"{COMPOSE} ps --format json")
        rows = json.loads(told) if told.startswith("[") else [json.loads(line) for line in told.splitlines()]
        return {row["Service"]: row["ID"] for row in rows}

    def address(self) -> str:
        """Return the proxy's address on the internal network, where it listens without TLS."""
        told = json.loads(self.paste(f"docker inspect {self.running()['caddy']}"))
        networks = told[0]["NetworkSettings"]["Networks"]
        return str(next(value["IPAddress"] for name, value in networks.items() if name.endswith("_internal")))

    def version(self) -> str:
        """Return the version that answers."""
        return str(fetch(self.address(), "/", port=8080).data["version"])

    def setting(self, name: str) -> str:
        """Return a value of `.env`."""
        found = re.search(rf"^{name}=(.*)$", (self.folder / ".env").read_text(encoding="utf-8"), re.MULTILINE)
        assert found
        return found.group(1)

    def query(self, sql: str) -> str:
        """Ask the database as its administrator."""
        return self.paste(f'{COMPOSE} exec -T postgres psql -At -U postgres -d harbour_shop -c "{sql}"').strip()

    @contextmanager
    def visited(self) -> Iterator[dict[str, int]]:
        """Send requests for as long as the block lasts, and count the answers."""
        counts: dict[str, int] = {}
        stop, address = threading.Event(), self.address()

        def visit() -> None:
            while not stop.is_set():
                try:
                    answer = fetch(address, "/items", port=8080, timeout=15)
                    outcome = str(answer.status)
                except OSError as error:
                    outcome = repr(error)
                counts[outcome] = counts.get(outcome, 0) + 1
                time.sleep(0.02)

        visitor = threading.Thread(target=visit)
        visitor.start()
        try:
            yield counts
        finally:
            stop.set()
            visitor.join()


@pytest.fixture
def server(
    rendered: Callable[[str], Path], tmp_path: Path, image: Callable[[str], str], app_image: Callable[..., str]
) -> Iterator[Server]:
    """A server on which the first release was deployed by its runbook."""
    images = {
        "API_IMAGE": app_image("api", "1"),
        "WORKER_IMAGE": app_image("worker", "1"),
        "WEB_IMAGE": app_image("web", "1"),
        "POSTGRES_IMAGE": image("postgres:18"),
        "CADDY_IMAGE": image("caddy"),
    }
    here = Server(tmp_path / "server", rendered("default"), images)
    here.release("first")
    try:
        prepare = here.block("deploy-release", "df -h")
        here.paste(prepare, *here.blocks("deploy-release", "## The first release"), replace="first")
        yield here
    finally:
        here.paste(f"{COMPOSE} --profile '*' down --volumes --timeout 5", check=False)


def test_a_release_is_deployed_and_rolled_back_without_a_failed_request(
    server: Server, app_image: Callable[..., str]
) -> None:
    assert server.version() == "1"
    before = server.running()
    server.release("second", API_IMAGE=app_image("api", "2"), WEB_IMAGE=app_image("web", "2"))
    with server.visited() as counts:
        told = server.paste(*server.blocks("deploy-release", "## 3.", "## 8."), replace="second")
    assert set(counts) == {"200"}, counts
    assert told.count("(healthy)") >= 2
    assert server.version() == "2"
    assert server.setting("COMPOSE_PROFILES") == "green"
    after = server.running()
    assert {"api-green", "web-green"} <= set(after)
    assert not {"api-blue", "web-blue"} & set(after)
    assert (after["postgres"], after["caddy"]) == (before["postgres"], before["caddy"])

    # What the standard's line starts is what runs already.
    server.paste(f"{COMPOSE} up -d")
    assert server.running() == after

    with server.visited() as counts:
        steps = server.blocks("rollback-release", "## 1.", "## 4.")
        server.paste(*(step for step in steps if " stop " not in step), replace="first")
    assert set(counts) == {"200"}, counts
    assert server.version() == "1"
    history = (server.folder / "state/history").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1:] for line in history] == [["first", "blue"], ["second", "green"], ["first", "blue"]]


def test_a_release_that_is_not_healthy_is_given_up_and_serves_nobody(
    server: Server, app_image: Callable[..., str]
) -> None:
    before = server.running()
    server.release("broken", API_IMAGE=app_image("api", "3", behaviour="never-healthy"))
    steps = server.blocks("deploy-release", "## 3.", "## 4.") + server.blocks("deploy-release", "## 5.", "## 6.")
    with server.visited() as counts:
        told = server.paste(*steps, check=False, replace="broken")
        assert "candidate-api  Up" in told
        assert not re.search(r"candidate-api  Up .*\(healthy\)", told)
        assert re.search(r"candidate-web  Up .*\(healthy\)", told)
        server.paste("idle=green", *server.blocks("deploy-release", "## Give up", "## The"), replace="first")
    assert set(counts) == {"200"}, counts
    assert server.running() == before
    assert not (server.folder / "state/compose.env.new").exists()


def test_the_passwords_of_the_database_are_rotated(server: Server) -> None:
    functions = server.block("rotate-secrets", "set_value()")
    names = ("POSTGRES_PASSWORD", "POSTGRES_OWNER_PASSWORD", "POSTGRES_APP_PASSWORD")
    old = {name: server.setting(name) for name in names}
    told = server.paste(functions, server.block("rotate-secrets", "ALTER ROLE"))
    new = {name: server.setting(name) for name in names}
    assert not set(old.values()) & set(new.values())
    assert not any(secret in told for secret in new.values())
    assert fetch(server.address(), "/items", port=8080).status == 200
    one_shot = f"{COMPOSE} run --rm --no-deps -T -e PGPASSWORD={old['POSTGRES_PASSWORD']} roles"
    told = server.paste(f"{one_shot} psql -c 'SELECT 1'", check=False)
    assert "password authentication failed" in told


def test_a_dump_is_restored_beside_the_database_and_put_in_its_place(server: Server) -> None:
    server.query("INSERT INTO items (name) VALUES ('kept')")
    told = server.paste(server.block("restore-database-backup", "pg_dump"))
    dump = told.strip().splitlines()[-1]
    assert (server.folder / dump).stat().st_mode & 0o777 == 0o600
    server.query("DELETE FROM items")
    told = server.paste(*server.blocks("restore-database-backup", "## 2.", "## 5."), replace=dump)
    assert "< public.items|0" in told
    assert "> public.items|1" in told
    assert server.query("SELECT name FROM items") == "kept"
    assert fetch(server.address(), "/items", port=8080).status == 200
    assert server.query("SELECT has_database_privilege('public', 'harbour_shop', 'CONNECT')") == "f"
    tables = server.query("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
    assert tables == "harbour_shop_owner"
