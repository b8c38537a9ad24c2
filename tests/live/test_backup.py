"""Backups that were read back: taken under load, restored after the database was lost, and every way they can fail."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import pexpect
import pytest

from tests.lab.backups import Bucket, bucket
from tests.lab.client import fetch
from tests.lab.figures import Figures
from tests.lab.listener import Listener, listener
from tests.lab.place import PREFIX
from tests.lab.server import DEPLOY, Server
from tests.lab.sftp import sftp_target
from tests.lab.shell import LabError, run

pytestmark = pytest.mark.live

FULL = bool(os.environ.get("FULL"))
# 100 is the database of 1.5 GB that figures are recorded of.
SCALE = 100 if FULL else 5
# Agree in every state that was ever committed, whatever pgbench is doing.
BALANCES = """
SELECT count(DISTINCT sum) FROM (SELECT sum(abalance) FROM pgbench_accounts
UNION ALL SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT sum(bbalance) FROM pgbench_branches
UNION ALL SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS sums"""
CHECKSUMS = """
SELECT string_agg(sum, ' ' ORDER BY sum) FROM (SELECT relname || '=' || (xpath('/row/c/text()', query_to_xml(format(
$$SELECT md5(string_agg(md5(r::text), '' ORDER BY md5(r::text))) AS c FROM %s r$$, relid::regclass),
false, true, '')))[1] AS sum FROM pg_stat_user_tables WHERE relname <> 'later') AS sums"""


# What a dump in clear would show of the row below.
ROW = "Ähre; $1 'x'"
DUMP = ("pg_dump", "-Fc", "-Z0", "-U", "postgres", "shop")


@dataclass
class Shop:
    """A server with data, the folder that stands for another machine, and who is told."""

    server: Server
    folder: Path
    told: Listener

    def psql(self, sql: str, database: str = "") -> str:
        """Ask a database, the live one by default, as its administrator."""
        database = database or self.server.env["POSTGRES_DB"]
        command = ["psql", "-XAt", "-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-c", sql]
        return self.server.running()["postgres"].exec(*command).stdout.strip()

    def pgbench(self, *words: str) -> list[str]:
        """The command that runs pgbench beside the database."""
        return ["docker", "exec", self.server.running()["postgres"].id, "pgbench", "-U", "postgres", *words, "shop"]

    @property
    def record(self) -> Path:
        """Where a record is put together."""
        return Path("/dev/shm/slipway-backup" + str(self.server.folder).replace("/", "-"))

    def settings(self, **changes: str) -> None:
        """Change backup.env, as a person would."""
        file = self.server.folder / "backup.env"
        text = file.read_text(encoding="utf-8")
        for name, value in changes.items():
            text = re.sub(f"(?m)^(# )?{name}=.*\n", "", text) + f"{name}={value}\n"
        file.write_text(text, encoding="utf-8")

    def setting(self, name: str) -> str:
        """A line of it."""
        text = (self.server.folder / "backup.env").read_text(encoding="utf-8")
        return next(line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}="))

    def backup(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Back up."""
        return self.server.script("backup", *options, check=check)

    def restore(self, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Restore."""
        return self.server.script("restore", *options, check=check)

    def ids(self, *options: str) -> list[str]:
        """The ids of what counts as a backup, the newest first."""
        return [line.split()[0] for line in self.restore("--list", *options).stdout.splitlines()[1:]]

    def runs(self) -> list[list[str]]:
        """What was written down of each run: what, result, text."""
        rows = (self.server.folder / "state/backups").read_text(encoding="utf-8").splitlines()
        return [[row.split("\t")[index] for index in (1, 2, 6)] for row in rows]

    def restic(self, *words: str) -> str:
        """Run restic on the repository itself, as who keeps it."""
        (program,) = (self.server.folder / "state/tools").iterdir()
        environment = {"RESTIC_PASSWORD": self.setting("BACKUP_PASSWORD"), "RESTIC_REPOSITORY": str(self.folder)}
        # Beside the repository: what it mends it copies to where it is called.
        told = run(program, "--no-cache", *words, cwd=self.folder, env={**os.environ, **environment})
        for path in [self.folder, *self.folder.rglob("*")]:
            os.chown(path, DEPLOY, DEPLOY)
        return told.stdout

    def lose_the_database(self, disk: Path | None = None) -> None:
        """Destroy container and volume, and let a deploy make an empty database, on another disk if one is given."""
        run("docker", "rm", "--force", "--volumes", self.server.running()["postgres"].id)
        volume = f"{self.server.name}_postgres_data"
        labels = run("docker", "volume", "inspect", "--format", "{{json .Labels}}", volume).stdout
        run("docker", "volume", "rm", volume)
        if disk:
            bound = [f"--opt={option}" for option in ("type=none", "o=bind", f"device={disk}")]
            bound += [f"--label={name}={value}" for name, value in json.loads(labels).items()]
            run("docker", "volume", "create", *bound, volume)
        (self.server.folder / "state/migrated").unlink()
        self.server.script("deploy", "--new-database")

    def start(self, script: str, *options: str, until: str) -> tuple[subprocess.Popen[str], int]:
        """Start a script, and wait for words of it; with the process that holds the lock."""
        running = self.server.start(f"infra/bin/{script}", *options)
        assert running.stdout is not None
        for line in running.stdout:
            if until in line:
                return running, int(
                    (self.server.folder / "state/backup.lock.holder").read_text(encoding="utf-8").split()[0]
                )
        raise LabError(f"{script} never said {until!r}")


@pytest.fixture
def shop(serve: Callable[..., Server], pushed: Callable[..., str]) -> Iterator[Shop]:
    """A shop whose backups are set up, by the runbook's steps, with what a pg_dump of one table would not show."""
    server = serve({"backup_volumes": "uploads"}, RESTIC_IMAGE=pushed("restic:0.18"))
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}repository-") as folder, listener() as told:
        os.chown(folder, DEPLOY, DEPLOY)
        made = Shop(server, Path(folder), told)
        first = server.script("backup", "--setup", check=False)
        assert "backup.env is new: fill it in" in first.stderr
        made.settings(
            BACKUP_REPOSITORY=folder,
            BACKUP_PING_URL=f"{told.address}/backup",
            DRILL_PING_URL=f"{told.address}/drill",
            BACKUP_FAIL_URL=f"{told.address}/failed",
        )
        shown = server.script("backup", "--setup").stdout
        assert made.setting("BACKUP_PASSWORD") in shown
        again = server.script("backup", "--setup").stdout
        assert made.setting("BACKUP_PASSWORD") not in again
        assert "the password opens it" in again
        run("docker", "volume", "create", f"{server.name}_uploads")
        run(*made.pgbench("-i", "-q", "-s", str(SCALE)))
        made.psql(
            "CREATE EXTENSION pgcrypto; CREATE ROLE reporter LOGIN PASSWORD 'x'; CREATE SCHEMA reports; "
            "CREATE TABLE reports.sales (id serial, amount numeric); INSERT INTO reports.sales (amount) VALUES (1.5); "
            "GRANT USAGE ON SCHEMA reports TO reporter; GRANT SELECT ON reports.sales TO reporter; "
            "SELECT lo_from_bytea(0, 'a large object'); ALTER DATABASE shop SET search_path = public, reports; "
            "INSERT INTO items (name) VALUES ('Ähre; $1 ''x''')"
        )
        yield made


def in_clear(shop: Shop) -> list[str]:
    """Files of the server's folder, of the repository and of the record that show a row."""
    folders = [folder for folder in (shop.server.folder, shop.folder, shop.record) if folder.exists()]
    found = run("grep", "-rlaF", "-e", ROW, *folders, check=False)
    if found.returncode > 1:
        raise LabError(found.stderr)
    return found.stdout.splitlines()


def files_in(volume: str, image: str, command: str) -> str:
    """Run a line of shell in a volume."""
    return run("docker", "run", "--rm", "-v", f"{volume}:/data", "--entrypoint", "sh", image, "-c", command).stdout


def test_every_row_comes_back_after_the_database_was_lost(shop: Shop, figures: Figures) -> None:
    server, volume = shop.server, f"{shop.server.name}_uploads"
    files_in(volume, server.images["POSTGRES_IMAGE"], "echo photo > '/data/a b.jpg' && chown 1654:1654 /data/*")

    # Under load: a state that was committed, and all of it.
    load = subprocess.Popen(
        shop.pgbench("-n", "-c4", "-P1", "-T3600"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    alone = 60 if FULL else 4
    time.sleep(alone)
    before = int(shop.psql("SELECT count(*) FROM pgbench_history"))
    told = shop.backup().stdout
    after = int(shop.psql("SELECT count(*) FROM pgbench_history"))
    shop.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'")
    seconds = re.findall(r"progress: [\d.]+ s, ([\d.]+) tps, lat ([\d.]+) ms", load.communicate()[1])
    assert "Backed up and read back" in told
    assert in_clear(shop) == []
    assert before < after
    (busy,) = shop.ids()
    shop.restore("--beside", "busy", busy)
    assert shop.psql(BALANCES, "busy") == "1"
    assert before <= int(shop.psql("SELECT count(*) FROM pgbench_history", "busy")) < after
    shop.restore("--drop", "busy")
    for words in (("--drop", "shop"), ("--drop", "postgres"), ("--beside", "shop"), ("--beside", "postgres")):
        refused = shop.restore(*words, check=False)
        assert re.search("is the live database|no database that a restore has made|already", refused.stderr), words
    assert shop.psql("SELECT count(*) FROM pg_database WHERE datname IN ('shop', 'postgres')", "postgres") == "2"

    # At rest: everything, byte for byte.
    shop.backup()
    side_by_side(shop, figures)
    everything = shop.psql(CHECKSUMS)
    shop.psql("CREATE TABLE later (x int)")
    server.write_env(POSTGRES_DB="store")  # a backup does not depend on what its database was called
    shop.lose_the_database()
    assert shop.psql("SELECT to_regclass('pgbench_accounts')") == ""
    unconfirmed = shop.restore("--into-live", check=False)
    assert "Say --confirm harbour-shop" in unconfirmed.stderr
    planned = shop.restore("--dry-run", "--into-live").stdout
    assert "Nothing was changed." in planned
    told = shop.restore("--into-live", "--confirm", "harbour-shop").stdout
    assert shop.psql(CHECKSUMS) == everything
    assert shop.psql("SELECT to_regclass('later')") == ""
    assert shop.psql("SHOW search_path") == "public, reports"
    assert shop.psql("SELECT has_table_privilege('reporter', 'reports.sales', 'SELECT')") == "t"
    assert shop.psql("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata") == "a large object"
    assert fetch(server.address(), "/", port=8080).data["version"] == "1"
    assert not (server.folder / "proxy/maintenance.html").exists()
    assert shop.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'store_before_%'") == "1"
    pause = re.search(r"the site was away for [\d.]+ s", told)
    assert pause

    # Files of the application, with their owner.
    files_in(volume, server.images["POSTGRES_IMAGE"], "rm /data/*")
    shop.restore("--volume", "uploads", "--confirm", "harbour-shop")
    found = files_in(volume, server.images["POSTGRES_IMAGE"], "cat '/data/a b.jpg'; stat -c %u /data/*")
    assert found.split() == ["photo", "1654"]

    # What was whole can be rehearsed; a copy that people work with has nobody in it.
    assert "can be restored: rehearsed" in server.script("restore-drill").stdout
    hooks = server.folder / "current/infra/hooks"
    (hooks / "restore-drill.d").mkdir()
    (hooks / "restore-drill.d/10-sales.sql").write_text(
        "DO $$ BEGIN ASSERT (SELECT count(*) FROM reports.sales) > 5, 'too few sales'; END $$;"
    )
    failed = server.script("restore-drill", check=False)
    assert (failed.returncode, "too few sales" in failed.stderr) == (1, True)
    (hooks / "anonymise.sql").write_text("UPDATE items SET name = 'item ' || id;")
    shop.restore("--anonymise", "--beside", "nobody")
    assert shop.psql("SELECT name FROM items", "nobody") == "item 1"

    assert [path for path, _ in shop.told.heard] == ["/backup", "/backup", "/backup", "/drill", "/failed"]
    assert "too few sales" in shop.told.heard[-1][1]
    status = server.script("status").stdout
    assert re.search(r"(?m)^backup +20", status)
    assert "!! drill failed" in status
    figures.add(f"a database of scale {SCALE} put in place of the live one", pause[0])
    figures.add("pgbench without a backup", mean(seconds[1:alone]))
    figures.add("pgbench while a backup is made and read back", mean(seconds[alone:]))
    assert leftovers(shop) == []


def side_by_side(shop: Shop, figures: Figures) -> None:
    """Restore the same state plainly and by the script; and what a day in which one row of a hundred changes adds."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    with tempfile.NamedTemporaryFile(prefix=f"{PREFIX}dump-") as dump:
        command = ["docker", "exec", shop.server.running()["postgres"].id, *DUMP]
        subprocess.run(command, stdout=dump, check=True)
        for _ in range(3 if FULL else 1):
            shop.psql("CREATE DATABASE plain TEMPLATE template0")
            for name, restore in (
                ("plain", lambda: restore_plainly(shop, Path(dump.name))),
                ("ours", lambda: shop.restore("--beside", "ours")),
            ):
                shop.psql("CHECKPOINT")  # of what came before
                began = time.monotonic()
                restore()
                seconds[name].append(time.monotonic() - began)
            shop.psql("DROP DATABASE plain")
            shop.restore("--drop", "ours")
    plain, ours = (median(seconds[name]) for name in ("plain", "ours"))
    if FULL:  # of a small database only the fixed costs would be seen
        assert ours <= 1.2 * plain, seconds
    figures.add(
        f"restore of scale {SCALE}, compared and all, against plain `pg_restore -j` of the same dump",
        f"{ours:.1f} s, {plain:.1f} s",
    )
    shop.psql("UPDATE pgbench_accounts SET abalance = abalance WHERE aid % 100 = 0")
    before = stored(shop.folder)
    shop.backup()
    size = int(shop.psql("SELECT pg_database_size('shop')"))
    figures.add(
        "a daily backup after 1 % of the rows changed, against the database",
        f"{(stored(shop.folder) - before) / 1e6:.0f} MB, {size / 1e6:.0f} MB",
    )


def restore_plainly(shop: Shop, dump: Path) -> None:
    """What somebody would do who has the dump on the server."""
    command = ["docker", "run", "--rm", "--network", f"{shop.server.name}_data", "-v", f"{dump}:/dump:ro"]
    command += ["-e", "PGPASSWORD", "--entrypoint", "pg_restore", shop.server.images["POSTGRES_IMAGE"]]
    options = ("-j", str(os.cpu_count()), "-h", "postgres", "-U", "postgres", "-d", "plain", "/dump")
    run(*command, *options, env={**os.environ, "PGPASSWORD": shop.server.env["POSTGRES_PASSWORD"]})


def stored(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def mean(seconds: list[tuple[str, str]]) -> str:
    """What pgbench measured each second, on average."""
    rate, latency = (fmean(float(each[column]) for each in seconds) for column in (0, 1))
    return f"{rate:.0f} transactions a second, {latency:.1f} ms each"


def leftovers(shop: Shop) -> list[str]:
    """What a run has left behind: secrets in memory, dumps on the disk, containers, sessions."""
    ended = [
        path
        for path in Path("/dev/shm").glob("slipway-re*-*")
        if not (Path("/proc") / path.name.rpartition("-")[2]).exists()
    ]
    left = [str(path) for path in (shop.record, *ended) if path.exists()]
    left += [str(path) for name in ("restore", "drill") for path in (shop.server.folder / "backups").glob(name)]
    left += [name for name in shop.server.running(one_shots=True) if name == "roles"]
    sessions = shop.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'slipway-%'")
    return left + [sessions] * (sessions != "0")


def fails(shop: Shop, words: str, told: subprocess.CompletedProcess[str], *, records: int) -> None:
    """Expect that a backup failed, said why, told somebody, and that earlier ones are as they were."""
    assert told.returncode == 1, told.stdout
    assert words in told.stderr
    assert shop.runs()[-1][:2] == ["backup", "failed"]
    assert words in shop.runs()[-1][2]
    path, text = shop.told.heard[-1]
    assert (path, words in text) == ("/failed", True)
    assert len(shop.ids()) == records
    assert "!! backup failed" in shop.server.script("status").stdout


@contextmanager
def disk_of_its_own(shop: Shop) -> Iterator[Path]:
    """Let the database live on a disk of 3 GB, which holds nothing else."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}disk-") as name:
        run("mount", "-t", "tmpfs", "-o", "size=3g", "tmpfs", name)
        try:
            shop.lose_the_database(Path(name))
            yield Path(name)
        finally:
            run("umount", "--lazy", name)


@contextmanager
def nearly_full(disk: Path, megabytes: int) -> Iterator[None]:
    """Leave so much room on a disk for the length of a block."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler = disk / "filler"
    run("fallocate", "--length", str(free - megabytes * 1_000_000), filler)
    try:
        yield
    finally:
        filler.unlink()


def test_a_full_disk_stops_a_restore_and_not_the_live_database(shop: Shop) -> None:
    with disk_of_its_own(shop) as disk:
        run(*shop.pgbench("-i", "-q", "-s", str(SCALE)))
        shop.backup()
        live = shop.psql(CHECKSUMS)
        with nearly_full(disk, 500):
            refused = shop.restore("--beside", "nowhere", check=False)
        assert "MB are free where the database is kept" in refused.stderr
        with small_disk(shop.server.folder / "backups"):
            refused = shop.server.script("restore-drill", check=False)
        assert "too little for a rehearsal" in refused.stderr

        running, _ = shop.start("restore", "--beside", "stopped", until="Restore into stopped")
        with paused(shop.server, "dump"), nearly_full(disk, 100):
            out, _ = running.communicate()
        assert running.returncode == 1
        assert "the restore was stopped before the live database had no room any more" in out
        assert shop.psql("SELECT count(*) FROM pg_database WHERE datname = 'stopped'") == "0"
        assert shop.psql(CHECKSUMS) == live
        shop.restore("--beside", "there_now")
        assert leftovers(shop) == []


@contextmanager
def paused(server: Server, command: str) -> Iterator[None]:
    """Let restic stand still in a command, as a stalled network would."""
    process = restic_in(server, command)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def restic_in(server: Server, command: str) -> int:
    """The restic that is in a command, once there is one."""
    program, until = str(server.folder / "state/tools/restic"), time.monotonic() + 30
    while time.monotonic() < until:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (process / "cmdline").read_text(encoding="utf-8").split("\0")
                if words[0].startswith(program) and command in words:
                    return int(process.name)
    raise LabError(f"restic {command} was never seen")


def test_a_second_place_is_filled_and_fails_by_itself(shop: Shop) -> None:
    server = shop.server
    server.give_a_name()
    hosts = server.folder / "current/infra/custom/known_hosts"
    with bucket() as s3, sftp_target("bridge", port=23) as box:
        first_place = box.repository
        access, secret = grant(s3, "server")
        shop.settings(
            BACKUP_REPOSITORY=first_place,
            BACKUP2_REPOSITORY=f"{s3.repository}/harbour-shop",
            BACKUP2_AWS_ACCESS_KEY_ID=access,
            BACKUP2_AWS_SECRET_ACCESS_KEY=secret,
            BACKUP_ANSWER_SECONDS="10",
        )
        first = shop.backup("--setup", check=False)
        assert first.returncode == 1
        assert "By SFTP this server may also delete" in first.stdout
        box.admit(re.findall(r"(?m)^restrict (ssh-\S+ \S+)", first.stdout)[0])
        hosts.write_text(box.known_hosts, encoding="utf-8")
        shop.backup("--setup")
        shop.backup()
        assert [len(shop.ids(*target)) for target in ((), ("--target", "2"))] == [1, 1]

        # Asked at a terminal: only what is kept elsewhere counts.
        passwords = [shop.setting(f"{target}_PASSWORD") for target in ("BACKUP", "BACKUP2")]
        asked = "infra/bin/backup --check-setup"
        told = typed(server, asked, passwords[0], "another")
        assert "the password that you keep opens it" in told
        assert "1 of these do not hold" in told
        assert "Another machine could restore" in typed(server, asked, *passwords)
        assert not box.contains(ROW)
        assert not any(password in told for password in passwords)
        told = typed(server, "infra/bin/restore --into-live", "another-shop")
        assert "another-shop is not the name of the application: nothing was changed" in told
        told = typed(server, "infra/bin/restore --volume uploads", "harbour-shop")
        assert "Restored backup" in told

        # A key that has expired: the other place has the backup, the alarm rings, and a new key heals it.
        s3.expire((access, secret))
        fails(shop, "no answer came within 10 s", shop.backup(check=False), records=2)
        assert s3.repository in shop.runs()[-1][2]
        access, secret = grant(s3, "server-again")
        shop.settings(BACKUP2_AWS_ACCESS_KEY_ID=access, BACKUP2_AWS_SECRET_ACCESS_KEY=secret)
        shop.backup()
        assert [len(shop.ids(*target)) for target in ((), ("--target", "2"))] == [3, 2]

        # The first place is gone.
        run("docker", "stop", "--time", "1", box.container.id)
        lost = shop.backup(check=False)
        assert lost.returncode == 1
        assert f"no backup at {first_place}, see above" in lost.stderr
        assert len(shop.ids("--target", "2")) == 3
        shop.restore("--target", "2", "--beside", "from_two")
        assert shop.psql("SELECT sum(bbalance) FROM pgbench_branches", "from_two") == "0"
        assert leftovers(shop) == []


def grant(s3: Bucket, name: str) -> tuple[str, str]:
    """A new key that may do everything with the bucket: what it may not do is another test's."""
    key = s3.key(name)
    there = [f"arn:aws:s3:::{s3.name}", f"arn:aws:s3:::{s3.name}/*"]
    rule = {"Effect": "Allow", "Principal": {"AWS": [name]}, "Action": ["s3:*"], "Resource": there}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    s3.aws("s3api", "put-bucket-policy", "--bucket", s3.name, "--policy", policy)
    return key


def typed(server: Server, command: str, *lines: str) -> str:
    """What a command says at a terminal at which these lines are typed, each when it is asked for."""
    words, environment = server.command(*command.split())
    screen = io.StringIO()
    person = pexpect.spawn(words[0], words[1:], cwd=server.folder, env=environment, encoding="utf-8", timeout=120)
    person.logfile_read = screen
    person.delaybeforesend = 0.3  # as long as a shell takes to be silent
    for line in lines:
        person.expect(r"\(not shown\): |to go on: ")
        person.sendline(line)
    person.expect(pexpect.EOF)
    person.close()
    return screen.getvalue()


def test_whatever_goes_wrong_is_told_and_the_next_run_heals(shop: Shop) -> None:
    shop.backup()
    password = shop.setting("BACKUP_PASSWORD")

    shop.settings(BACKUP_PASSWORD="another")
    fails_now = shop.backup(check=False)
    shop.settings(BACKUP_PASSWORD=password)
    fails(shop, "the password does not open it", fails_now, records=1)

    # Not there, then full: a small disk that is another one.
    shop.settings(BACKUP_REPOSITORY="sftp:nobody@127.0.0.1:/nowhere")
    unreachable = shop.backup(check=False)
    shop.settings(BACKUP_REPOSITORY=str(shop.folder))
    fails(shop, "the backups cannot be listed", unreachable, records=1)
    with full(shop.folder):
        shop.restore("--beside", "from_a_full_one")
        no_room = shop.backup(check=False)
    fails(shop, "was not stored", no_room, records=1)

    # Its dump dies half way: nothing of it is stored as if it were whole.
    stored = shop.restic("snapshots", "--tag", "database", "--json").count('"time"')
    dying = shop.server.start("infra/bin/backup")
    kill_dump(shop.server)
    out, _ = dying.communicate()
    assert dying.returncode == 1, out
    assert "was not stored" in out
    assert shop.restic("snapshots", "--tag", "database", "--json").count('"time"') == stored

    # Killed at any point, with whatever it has started left behind; a second one meanwhile keeps out.
    for number, step in enumerate(("Dump the database", "Read the whole dump", "Store the record", "Check a part")):
        running, holder = shop.start("backup", until=step)
        if number == 0:
            second = shop.backup(check=False)
            assert (second.returncode, "is under way" in second.stderr) == (75, True)
        os.kill(holder, signal.SIGKILL)
        running.communicate()
        assert in_clear(shop) == []
        assert shop.ids()
    assert "Backed up and read back" in shop.backup().stdout
    assert shop.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slipway-backup'") == "0"
    assert "backup  " in shop.server.script("status").stdout

    # The live database survives every restore that cannot be.
    live = shop.psql(CHECKSUMS)
    forge(shop, "VERSION=", "VERSION=990001")
    refused = shop.restore("--into-live", "--confirm", "harbour-shop", check=False)
    assert "the backup is of PostgreSQL 99" in refused.stdout + refused.stderr
    shop.restic("forget", shop.ids()[0])

    running, holder = shop.start("restore", "--beside", "killed", until="Restore into killed")
    os.kill(holder, signal.SIGKILL)
    running.communicate()
    assert "the database killed is there" in shop.restore("--beside", "killed").stdout

    # Too old; or from the future, since the clock was wrong once: the newest is what came last, and somebody is told.
    shop.restic("rewrite", "--forget", "--new-time", "2026-01-01 00:00:00", shop.ids()[0])
    drill = shop.server.script("restore-drill", check=False)
    assert (drill.returncode, "read back is of 2026-01-01" in drill.stderr) == (1, True)
    assert "would restore" in shop.restore("--dry-run", "2026-01-01T12:00Z").stdout
    shop.restic("rewrite", "--forget", "--new-time", "2099-01-01 00:00:00", shop.ids()[0])
    drill = shop.server.script("restore-drill", check=False)
    assert (drill.returncode, "is in the future" in drill.stderr) == (1, True)
    records = len(shop.ids())
    fails(shop, "the clock of this server is wrong", shop.backup(check=False), records=records + 1)
    assert "2099" in shop.restore("--list").stdout.splitlines()[2]
    shop.backup()

    # A file of the repository is cut short: what cannot be read does not count, and whoever keeps it can mend it.
    shop.server.script("restore-drill")
    largest = max(shop.folder.glob("data/*/*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    records = len(shop.ids())
    drill = shop.server.script("restore-drill", check=False)
    assert drill.returncode == 1
    assert "cannot be read" in drill.stderr
    beside = shop.restore("--beside", "broken", check=False)
    assert "cannot be read" in beside.stderr
    assert shop.psql("SELECT count(*) FROM pg_database WHERE datname = 'broken'") == "0"
    fails(shop, "cannot be read back", shop.backup(check=False), records=records)
    shop.restic("repair", "packs", largest.name)
    shop.restic("repair", "snapshots", "--forget")
    shop.backup()
    shop.server.script("restore-drill")
    assert shop.psql(CHECKSUMS) == live
    assert leftovers(shop) == []


def kill_dump(server: Server) -> None:
    """Kill the database's pg_dump once it has written something."""
    inside = server.running()["postgres"].id
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for comm in Path("/proc").glob("[0-9]*/comm"):
            process = comm.parent
            with suppress(OSError):
                if comm.read_text(encoding="utf-8") != "pg_dump\n":
                    continue
                written = re.search(r"wchar: (\d+)", (process / "io").read_text(encoding="utf-8"))
                mine = inside in (process / "cgroup").read_text(encoding="utf-8")
                if mine and written and int(written[1]) > 100_000:
                    os.kill(int(process.name), signal.SIGKILL)
                    return
    raise LabError("no pg_dump was seen")


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A repository on a disk without a free byte."""
    with small_disk(folder, size="40m"):
        (folder / "filler").write_bytes(b"")
        with suppress(OSError), (folder / "filler").open("wb") as filler:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        yield


@contextmanager
def small_disk(folder: Path, *, size: str = "64m") -> Iterator[None]:
    """Let a folder be a small disk of its own, with what was in it."""
    kept = folder.with_name(f"{folder.name}-kept")
    run("cp", "-a", folder, kept)
    run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700,uid={DEPLOY},gid={DEPLOY}", "tmpfs", folder)
    try:
        run("cp", "-a", f"{kept}/.", folder)
        yield
    finally:
        run("umount", "--lazy", folder)
        run("rm", "-r", kept)


def forge(shop: Shop, begin: str, line: str) -> None:
    """Store a record of the newest backup in which one line is another one."""
    shop.restic("restore", f"{shop.ids()[0]}:{shop.record}", "--target", str(shop.record))
    about = shop.record / "about"
    about.write_text(re.sub(f"(?m)^{begin}.*", line, about.read_text(encoding="utf-8")), encoding="utf-8")
    *_, newest = json.loads(shop.restic("snapshots", "--tag", "record", "--json"))
    try:
        shop.restic("backup", "--host", "harbour-shop", "--tag", ",".join(newest["tags"]), str(shop.record))
    finally:
        run("rm", "-r", shop.record)
