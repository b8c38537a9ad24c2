"""The runbooks, followed on a real engine: every line that is pasted on the server is run as it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs import reading
from tests.lab.client import fetch
from tests.lab.server import Server, environment_of
from tests.lab.traffic import traffic

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.registry import Registry

pytestmark = pytest.mark.live

COMPOSE = "docker compose -f infra/docker-compose.prod.yml"


class Followed(Server):
    """A server, and somebody who pastes runbooks there."""

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
        """Run blocks in one shell. What cannot be here is left out: the folder's name, how much room Docker has.

        Args:
            blocks: What is pasted.
            check: Whether to stop at a line that fails, and fail.
            replace: What stands where the runbook says REPLACE_WITH_….
        """
        code = re.sub(r"^cd /opt/\S+$", f"cd {self.folder}", "\n".join(blocks), flags=re.MULTILINE)
        code = re.sub(r"^df .*$", "", code, flags=re.MULTILINE)
        # Tells a difference by its exit code too, which is no failure.
        code = re.sub(r"^(diff (?:.*\\\n)?.*)$", r"\1 || true", code, flags=re.MULTILINE)
        code = re.sub(r"REPLACE_WITH_\w+", replace or "REPLACE_", code)
        assert "REPLACE_" not in code, code
        done: subprocess.CompletedProcess[str] = self.run(
            "bash", "-c", f"set -e\n{code}" if check else code, check=False
        )
        assert done.returncode == 0 or not check, (
            f"{code}\n--- stdout ---\n{done.stdout}\n--- stderr ---\n{done.stderr}"
        )
        return done.stdout + done.stderr

    def setting(self, name: str) -> str:
        """Return a value of `.env`."""
        found = re.search(rf"^{name}=(.*)$", (self.folder / ".env").read_text(encoding="utf-8"), re.MULTILINE)
        assert found
        return found.group(1)


@pytest.fixture
def server(
    request: pytest.FixtureRequest,
    rendered: Callable[[str], Path],
    image: Callable[[str], str],
    app_image: Callable[..., str],
    registry: Registry,
) -> Iterator[Followed]:
    """A server whose `.env` was made by "The first hour", and on which a release was deployed.

    The project is that of the profile "default", unless the test's parameter says another one.
    """
    project = rendered(getattr(request, "param", "default"))
    images = {
        "API_IMAGE": registry.push(app_image("api", "1"), "shop/api", "1"),
        "WORKER_IMAGE": registry.push(app_image("worker", "1"), "shop/worker", "1"),
        "WEB_IMAGE": registry.push(app_image("web", "1"), "shop/web", "1"),
        "POSTGRES_IMAGE": registry.push(image("postgres:18"), "shop/postgres", "18"),
        "CADDY_IMAGE": registry.push(image("caddy"), "shop/caddy", "1"),
        "RESTIC_IMAGE": registry.push(image("restic:0.18"), "shop/restic", "1"),
    }
    with Followed(project, images, environment_of(project)) as here:
        (here.folder / ".env").unlink()
        (here.folder / ".env.example").write_text((project / ".env.example").read_text(encoding="utf-8"))
        here.paste(here.block("first-hour", "noclobber"), check=False)
        made = dict(
            line.split("=", 1)
            for line in (here.folder / ".env").read_text(encoding="utf-8").splitlines()
            if "=" in line and not line.startswith("#")
        )
        local = ("API_HOSTNAME", "WEB_HOSTNAME", "HTTP_PORT", "HTTPS_PORT", "ACME_DIRECTORY")
        here.env = made | {name: value for name, value in here.env.items() if name in local}
        here.write_env()
        here.release("first")
        here.deploy("first", "--new-database")
        yield here


def test_a_release_is_deployed_and_rolled_back_without_a_failed_request(
    server: Followed, app_image: Callable[..., str], registry: Registry
) -> None:
    with traffic(server.site, slow=False) as seen:
        for code in server.blocks("deploy-release"):
            server.paste(code)
        server.release("second", API_IMAGE=registry.push(app_image("api", "2"), "shop/api", "2"))
        server.deploy("second")
        told = server.paste(*server.blocks("rollback-release"))
    # The maintenance page is on for a moment, as that runbook shows it.
    assert [each for each in seen.failed if "503" not in each] == []
    assert "Would put first in the place of second" in told
    assert server.live()[0] == "first"


def test_a_migration_is_run_by_hand_and_looked_at(server: Followed) -> None:
    told = server.paste(
        server.block("run-database-migration", "infra/bin/migrate"),
        *server.blocks("run-database-migration", "See what the database has:", "## "),
        *server.blocks("run-database-migration", "## When it fails"),
    )
    assert "20300101000000_Items" in told
    assert "usename" in told, "who is in the way was not shown"
    assert server.history()[-1] == ["migrate", "first", "first", "ok"]


def test_the_passwords_of_the_database_are_rotated(server: Followed) -> None:
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


@pytest.mark.parametrize("server", ["terraform-local"], indirect=True)
def test_a_dump_is_restored_beside_the_database_and_put_in_its_place(server: Followed) -> None:
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


def test_a_backup_is_restored_looked_at_and_put_in_place_of_the_live_database(server: Followed) -> None:
    server.query("INSERT INTO items (name) VALUES ('kept')")
    server.script("backup", "--setup", check=False)
    with (server.folder / "backup.env").open("a", encoding="utf-8") as file:
        file.write(f"BACKUP_REPOSITORY={server.folder}/home/repository\n")
    server.script("backup", "--setup")

    runbook = "restore-database-backup"
    server.paste(*server.blocks(runbook, "## Take a dump", "## 1"))
    server.query("DELETE FROM items")
    told = server.paste(*server.blocks(runbook, "## 1", "## 3"))
    assert "items" in told
    assert "looked_at is gone" in told
    confirmed = [
        code.replace("--into-live", "--into-live --confirm harbour-shop")
        for code in server.blocks(runbook, "## 3", "## 4")
    ]
    told = server.paste("backup=latest", *confirmed)
    assert "Nothing was changed." in told
    assert server.query("SELECT name FROM items") == "kept"
    before = re.search(r"harbour_shop_before_\w+", told)
    assert before
    told = server.paste(*server.blocks(runbook, "## 4", "## Real"), replace=before[0])
    assert f"{before[0]} is gone" in told
    told = server.paste(*server.blocks(runbook, "## Rehearsals"))
    assert "can be restored" in told

    # As on staging, where the settings of production's backups are typed in.
    (server.folder / "current/infra/hooks/anonymise.sql").write_text("UPDATE items SET name = 'item ' || id;")
    (block,) = server.blocks(runbook, "## Real", "## What")
    block = block.replace("nano ", "cp backup.env ").replace("--into-live", "--into-live --confirm harbour-shop")
    server.paste(block)
    assert server.query("SELECT name FROM items").startswith("item ")
    assert not (server.folder / "production-backup.env").exists()
