"""A database whose log is archived: lost under load and brought back, set back to a moment, rehearsed, damaged."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.docs import reading
from tests.lab.client import fetch
from tests.lab.figures import Figures
from tests.lab.listener import Listener, listener
from tests.lab.place import PREFIX
from tests.lab.server import DEPLOY, Server, environment_of
from tests.lab.sftp import SftpTarget, sftp_target
from tests.lab.shell import run

pytestmark = pytest.mark.live

FULL = bool(os.environ.get("FULL"))
SCALE = 100 if FULL else 10
ARCHIVE_SECONDS = 5  # POSTGRES_ARCHIVE_TIMEOUT of the server here; 60 by default
PASSWORD = re.compile(r"BACKUP_PASSWORD=([0-9a-f]{64})")
CHECKSUM = """
SELECT string_agg(t || md5(query_to_xml('SELECT count(*), sum(hashtext(x::text)::bigint) FROM ' || t || ' x',
                                        false, true, '')::text), ' ' ORDER BY t)
FROM unnest(ARRAY['pgbench_accounts', 'pgbench_branches', 'pgbench_tellers', 'pgbench_history']) AS t
"""


class Shop:
    """A server with a database that is backed up, and where the backups go."""

    def __init__(self, server: Server, target: SftpTarget, pings: Listener) -> None:
        """Take what has been started."""
        self.server, self.target, self.pings = server, target, pings
        self.told = ""

    def write(self, name: str, text: str) -> None:
        """A file that only the deploying user reads."""
        file = self.server.folder / name
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
        run("chown", f"{DEPLOY}:{DEPLOY}", file)

    def runs(self) -> list[list[str]]:
        """What, result and id of every backup, drill and restore."""
        lines = (self.server.folder / "state/backups").read_text(encoding="utf-8").splitlines()
        return [line.split("\t")[1:4] for line in lines]

    def bench(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run pgbench beside the database."""
        command = ["pgbench", "--username=postgres", *options, "shop"]
        return self.server.running()["postgres"].exec(*command)

    @contextmanager
    def commits(self) -> Iterator[list[tuple[int, float]]]:
        """Commit a counter row again and again; yields number and time of those that were confirmed."""
        confirmed: list[tuple[int, float]] = []
        session = subprocess.Popen(
            [
                *("docker", "exec", "-i", self.server.running()["postgres"].id),
                *("psql", "-XqAt", "--username=postgres", "--dbname=shop"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        ended = threading.Event()

        def go_on() -> None:
            assert session.stdin
            assert session.stdout
            try:
                while not ended.is_set():
                    session.stdin.write("INSERT INTO commits DEFAULT VALUES RETURNING n;\n")
                    session.stdin.flush()
                    told = session.stdout.readline()
                    if not told:
                        return
                    confirmed.append((int(told), time.time()))
                    time.sleep(0.03)
            except OSError:
                return

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield confirmed
        finally:
            ended.set()
            thread.join(timeout=10)
            session.kill()
            session.wait()

    def paste(self, words: str, moment: str = "") -> str:
        """Run the block of the runbook that has these words."""
        document = self.server.project / "docs/runbooks/restore-to-a-moment.md"
        (code,) = [block.code for block in reading.blocks(document) if words in block.code]
        code = code.replace("cd /opt/harbour-shop", f"cd {self.server.folder}")
        told = self.server.run("bash", "-c", "set -e\n" + code.replace("REPLACE_WITH_THE_TIME", moment)).stdout
        print(told)
        return told

    def restore(self, *options: str) -> str:
        """Bring the database back in the place of the live one."""
        told = self.server.script("restore", *options, "--into-live", "--confirm", "harbour-shop").stdout
        print(told)
        return told


@pytest.fixture(scope="module")
def shop(source: Path, tmp_path_factory: pytest.TempPathFactory, pushed: Callable[..., str]) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("shop") / "project"
    name = f"{PREFIX}archived-{os.getpid()}"
    rendering.render(
        source,
        path,
        {
            **profiles.PROFILES["api-only"],
            "compose_project": name,
            "backup_method": "pgbackrest",
            "postgres_version": 17,
        },
    )
    images = {"API_IMAGE": pushed("api", "1"), "CADDY_IMAGE": pushed("caddy")}
    images |= {"POSTGRES_IMAGE": pushed("postgres-pgbackrest:17")}
    env = {**environment_of(path), "POSTGRES_ARCHIVE_TIMEOUT": f"{ARCHIVE_SECONDS}s"}
    with ExitStack() as held:
        server = held.enter_context(Server(path, images, env))
        server.release("first")
        server.deploy("first", "--new-database")
        target = held.enter_context(sftp_target(f"{name}_archive"))
        pings = held.enter_context(listener())
        made = Shop(server, target, pings)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server.folder / "backup_key")
        run("chown", f"{DEPLOY}:{DEPLOY}", server.folder / "backup_key")
        target.admit((server.folder / "backup_key.pub").read_text(encoding="utf-8"))
        made.write("releases/first/infra/custom/known_hosts", target.known_hosts)
        paths = {"BACKUP_PING_URL": "backup", "BACKUP_FAIL_URL": "fail", "DRILL_PING_URL": "drill"}
        urls = "".join(f"{name}={pings.address}/{path}\n" for name, path in paths.items())
        made.write("backup.env", f"BACKUP_REPOSITORY={target.repository}\nBACKUP_PASSWORD=\n{urls}")
        made.told = server.script("backup", "--setup").stdout
        made.bench("--initialize", f"--scale={SCALE}", "--quiet")
        server.query("CREATE TABLE commits (n bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
        yield made


@pytest.fixture(scope="module")
def backed_up(shop: Shop) -> Shop:
    """With a first backup, made under load."""
    load = threading.Thread(target=shop.bench, args=("--client=2", "--time=10"))
    load.start()
    print(shop.server.script("backup").stdout)
    load.join()
    return shop


def test_what_opens_the_backups_is_for_the_database_alone(backed_up: Shop) -> None:
    server = backed_up.server
    password = PASSWORD.search(backed_up.told)
    assert password, "setup shows the password once"
    assert PASSWORD.search(server.script("backup", "--setup").stdout) is None
    postgres = server.running()["postgres"]
    inspected = run("docker", "inspect", postgres.id, server.images["POSTGRES_IMAGE"]).stdout
    assert password[1] not in inspected
    assert postgres.exec("stat", "-c", "%a %U", "/etc/pgbackrest/pgbackrest.conf").stdout.split() == ["600", "postgres"]
    assert postgres.exec("stat", "-c", "%a %U", "/etc/pgbackrest/key1").stdout.split() == ["600", "postgres"]
    assert not backed_up.target.contains("INSERT"), "what arrives is encrypted"
    left = Path("/dev/shm").glob("slipway-backup-*")
    assert [path for path in left if not Path("/proc", path.name.split("-")[-1]).exists()] == []


def test_a_second_backup_is_differential_and_two_never_run_at_once(backed_up: Shop) -> None:
    server = backed_up.server
    first = server.start("infra/bin/backup")
    time.sleep(1)
    second = server.script("backup", check=False)
    assert second.returncode == 75
    told, _ = first.communicate(timeout=120)
    assert first.returncode == 0, told
    assert re.fullmatch(r"\d{8}-\d{6}F_\d{8}-\d{6}D", backed_up.runs()[-1][2])
    assert backed_up.pings.heard[-1][0] == "/backup"
    assert backed_up.runs()[-1][:2] == ["backup", "ok"]


def test_a_lost_volume_comes_back_with_all_but_the_last_seconds(backed_up: Shop, figures: Figures) -> None:
    server = backed_up.server
    before = server.query(CHECKSUM)
    with backed_up.commits() as confirmed:
        time.sleep(3 * ARCHIVE_SECONDS)
        postgres = server.running()["postgres"]
        run("docker", "kill", "--signal", "KILL", postgres.id)
        lost_at = time.time()
    volume = f"{server.name}_postgres_data"
    run("docker", "rm", "--force", "--volumes", postgres.id)
    run("docker", "volume", "rm", *run("docker", "volume", "ls", "-q", "--filter", f"name={volume}").stdout.split())
    began = time.monotonic()
    assert "is kept in the volume" not in backed_up.restore("latest"), "there is none"
    took = time.monotonic() - began
    assert server.query(CHECKSUM) == before
    last = int(server.query("SELECT max(n) FROM commits"))
    lost = [at for n, at in confirmed if n > last]
    seconds = lost_at - min(lost) if lost else 0.0
    assert len(confirmed) > 100
    assert int(server.query("SELECT count(*) FROM commits")) >= len(confirmed) - len(lost)
    figures.add(
        "a database lost with its volume, restored from the archive",
        f"{len(lost)} of {len(confirmed)} commits lost, those of the last {seconds:.1f} s (archive_timeout "
        f"{ARCHIVE_SECONDS} s); serving again after {took:.0f} s, pgbench scale {SCALE}",
    )
    assert seconds <= 2 * ARCHIVE_SECONDS + 5
    assert fetch(server.address(), "/items", port=8080).status in {200, 201}
    assert backed_up.runs()[-1][:2] == ["restore", "ok"]


def test_a_dropped_table_is_back_as_of_the_moment_before_by_the_runbook(backed_up: Shop) -> None:
    server = backed_up.server
    server.query("CREATE TABLE orders AS SELECT generate_series(1, 500) AS n")
    time.sleep(1)
    moment = server.query("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS UTC')")
    time.sleep(0.2)
    server.query("DROP TABLE orders")
    server.query("CREATE TABLE written_since (n int)")
    assert "public | orders " in backed_up.paste("--beside look", moment)
    backed_up.paste("--discard look")
    assert run("docker", "volume", "ls", "-q", "--filter", f"name={server.name}_look").stdout == ""
    assert server.query("SELECT to_regclass('orders') IS NULL") == "t"
    refused = server.script("restore", "--at", moment, "--into-live", check=False)
    assert "say --confirm harbour-shop" in refused.stderr
    told = backed_up.paste('--at "$at" --into-live', moment)
    assert server.query("SELECT count(*) FROM orders") == "500"
    assert server.query("SELECT to_regclass('written_since') IS NULL") == "t"
    kept = re.search(r"docker volume rm (\S+)", told)
    assert kept
    run("docker", "volume", "inspect", kept[1])
    assert server.script("maintenance", "status").stdout == "off\n"
    # From the new timeline on, the log is archived and backed up as before: the rehearsal below reads it.
    server.query("INSERT INTO orders VALUES (501)")
    backed_up.paste("backup --full")
    assert "full" in backed_up.paste("--list").splitlines()[-2]


def test_the_rehearsal_is_green_and_then_red_for_what_cannot_be_read(backed_up: Shop) -> None:
    server = backed_up.server
    checks = server.folder / "releases/first/infra/hooks/restore-drill.d"
    checks.mkdir(parents=True, exist_ok=True)
    (checks / "accounts.sql").write_text(
        "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pgbench_accounts WHERE aid = 1000000); END $$;"
    )
    good = server.script("restore-drill")
    print(good.stdout)
    assert "accounts.sql is fine" in good.stdout
    assert backed_up.runs()[-1][:2] == ["drill", "ok"]
    assert backed_up.pings.heard[-1][0] == "/drill"
    (checks / "accounts.sql").write_text("DO $$ BEGIN ASSERT false, 'no customers'; END $$;\n", encoding="utf-8")
    for _ in range(2):  # two files of the log that no backup needs
        server.script("backup", "--check-setup")
    target = backed_up.target
    log, bundle = target.files("*/archive/*.zst"), target.files("*F/bundle/*")[-1]
    damages: list[tuple[AbstractContextManager[None], str]] = [
        (target.truncated(log[-1]), "the log could not be read to its end"),
        (target.truncated(bundle), "could not be read from the repository"),
    ]
    if FULL:
        damages += [(target.missing(log[-2]), "the log breaks off before"), (nullcontext(), "no customers")]
    for damage, said in damages:
        with damage:
            bad = server.script("restore-drill", check=False)
        print(bad.stdout)
        assert bad.returncode == 1
        assert said in bad.stdout
        assert backed_up.runs()[-1][:2] == ["drill", "failed"]
        assert backed_up.pings.heard[-1][0] == "/fail"
    left = run("docker", "ps", "-aq", "--filter", f"name={server.name}-drill").stdout
    assert left + run("docker", "volume", "ls", "-q", "--filter", f"name={server.name}_drill").stdout == ""


def test_an_archive_that_stands_still_is_told(backed_up: Shop) -> None:
    server = backed_up.server
    alarms = (server.folder / "infra/bin/server-alarms", "--app", "harbour-shop", "--project", server.name, "--dry-run")
    assert "goes on" in server.script("status").stdout
    assert "stood still" not in run(*alarms).stdout
    run("docker", "pause", backed_up.target.container.id)
    try:
        server.query("SELECT pg_switch_wal()")
        folder = '"$PGDATA/pg_wal/archive_status"'
        older = f"until touch -d '10 minutes ago' {folder}/*.ready 2>/dev/null; do sleep 0.1; done"
        server.running()["postgres"].exec("sh", "-c", older)
        assert "!! STANDS STILL for 10 minutes: 1 files" in server.script("status").stdout
        assert "archive of the database's log has stood still" in run(*alarms).stdout
    finally:
        run("docker", "unpause", backed_up.target.container.id)
    server.script("backup", "--check-setup")
    assert "goes on, 0 files wait" in server.script("status").stdout
