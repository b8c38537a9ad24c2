"""Where backups go: nobody on the server can take one back, and what is kept is what the policy says.

The hosts are made by the runbook ``set-up-backups``, line by line. The attacker has everything that the server has: the
key, the password, the program.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.docs import reading
from tests.lab import backups, hosts
from tests.lab.images import ensure
from tests.lab.listener import Listener, listener
from tests.lab.shell import run

pytestmark = pytest.mark.live

RUNBOOK = "docs/runbooks/set-up-backups.md"
APP = "harbour-shop"
PASSWORD = "correct horse battery staple"
NOW = datetime.now(UTC).replace(microsecond=0)


def blocks(project: Path, place: str, words: str = "") -> list[str]:
    """The blocks of the runbook that belong to a place, in order; with these words in them."""
    found = [block.code for block in reading.blocks(project / RUNBOOK) if block.place == place]
    return [code for code in found if words in code and "nano " not in code]


@pytest.fixture(scope="module")
def restic(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """The program, as the server has it."""
    return backups.restic_binary(tmp_path_factory.mktemp("bin"))


# ----- A host that is reached by SSH -----------------------------------------------------------------------------


@dataclass
class Kept:
    """A backup host with a server's repository on it, and what that server has."""

    target: backups.Target
    host: hosts.Host
    project: Path
    program: Path
    key: Path
    told: Listener

    @property
    def ssh(self) -> list[str]:
        """How the server's key comes in."""
        options = ["IdentitiesOnly=yes", "BatchMode=yes", "StrictHostKeyChecking=yes", "LogLevel=ERROR"]
        options.append(f"UserKnownHostsFile={self.project}/infra/custom/known_hosts")
        return ["-i", str(self.key), *(word for option in options for word in ("-o", option))]

    def restic(self, *words: str, stdin: str | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run restic as the server does."""
        program = " ".join(["ssh", "-T", *self.ssh, self.target.ssh])
        command = [str(self.program), "--no-cache", "-r", "rclone:backup", "-o", f"rclone.program={program}"]
        environment = os.environ | {"RESTIC_PASSWORD": PASSWORD, "TZ": "UTC"}
        return run(*command, *words, env=environment, stdin=stdin, check=False, timeout=timeout)

    def back_up(self, tags: str, text: str, when: datetime | None = None) -> str:
        """Add a snapshot as the server can, with any time; returns its id."""
        options = ["--time", when.strftime("%Y-%m-%d %H:%M:%S")] if when else []
        words = ["backup", "--quiet", "--json", "--stdin", "--tag", tags, *options]
        told = self.restic(*words, stdin=text)
        assert told.returncode == 0, told.stderr
        return str(json.loads(told.stdout.splitlines()[-1])["snapshot_id"])

    def files(self) -> dict[str, str]:
        """The repository's files and their contents' hashes, locks excepted."""
        listing = self.target.sh(f"cd {self.target.path} && find . -type f ! -path './locks/*' -exec sha256sum {{}} +")
        return {line[66:]: line[:64] for line in listing.splitlines()}

    def ids(self) -> set[str]:
        """The snapshots that are there."""
        return set(self.target.sh(f"ls {self.target.path}/snapshots").split())

    def forget(self, *ids: str) -> None:
        """Remove snapshots, as the host's administrator."""
        self.target.restic("forget", *ids, password=PASSWORD)

    def prune(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the host's own command."""
        command = " ".join(["prune-backups", "--settings", f"/etc/prune-backups/{APP}.conf", *options])
        return self.host.ssh("root", command, check=False)


@pytest.fixture(scope="module")
def kept(
    source: Path,
    restic: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kept]:
    """A backup host, made by the runbook."""
    folder = tmp_path_factory.mktemp("kept")
    project = rendering.render(source, folder / "project", profiles.REQUIRED)
    with hosts.internet() as net, listener(net.gateway) as told:
        host = net.host("keeper", image="vps-bare:trixie")
        target = backups.Target(host.container, host.address, APP)
        first, put_line, *_ = blocks(project, "keeper")
        host.ssh("root", f"set -euo pipefail\n{first}")
        host.ssh("root", "true")  # tries again: sshd closes its port for a moment when it reads its configuration anew
        for code in blocks(project, "machine")[:2]:
            on_machine(code, host, project)
        key = hosts.new_key(folder / "key")
        line = target.line_for(key.with_suffix(".pub").read_text(encoding="utf-8"))
        host.ssh("root", f"name={APP}\n{put_line}", stdin=line)
        made = Kept(target, host, project, restic, key, told)
        assert made.restic("init").returncode == 0
        for code in blocks(project, "machine", "backup-host"):
            on_machine(code, host, project)
        (install,) = blocks(project, "keeper", "install -m 0755 /root/bin/prune-backups")
        host.ssh("root", f"set -euo pipefail\n{install}", stdin=f"{PASSWORD}\n")
        urls = f"PRUNE_PING_URL={told.address}/ok\nPRUNE_FAIL_URL={told.address}/bad\n"
        host.ssh("root", f"cat >> /etc/prune-backups/{APP}.conf", stdin=urls)
        yield made


def on_machine(code: str, host: hosts.Host, project: Path) -> None:
    """Run a block as somebody on their own machine does."""
    ssh = " ".join(host.ssh_command("")[:-1])
    code = code.replace("REPLACE_WITH_THE_ADDRESS_OF_THE_BACKUP_HOST", host.address)
    script = f'ssh() {{ command {ssh} "$@"; }}\naddress={host.address}\n{code}'
    run("bash", "-euo", "pipefail", "-c", script, cwd=project)


Request = tuple[str, str]


@contextmanager
def http_to(kept: Kept) -> Iterator[Callable[..., list[str]]]:
    """`ask(("DELETE", "/config"), …)`: speak to what the key reaches, without restic; the status of each answer."""
    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory(prefix="keeper-") as sockets:
        port = server.getsockname()[1]
        shared = [f"-oControlPath={sockets}/%C", "-oControlMaster=auto", "-oControlPersist=10"]

        def bridge(connection: socket.socket) -> None:
            with connection:
                subprocess.run(
                    ["ssh", "-T", *shared, *kept.ssh, kept.target.ssh],
                    stdin=connection.fileno(),
                    stdout=connection.fileno(),
                    stderr=subprocess.DEVNULL,
                    check=False,
                )

        def listen() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=bridge, args=(connection,), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()

        def one(request: Request) -> str:
            method, path = request
            words = ["--silent", "--http2-prior-knowledge", "--path-as-is", "--max-time", "20", "--request", method]
            words += [] if method in {"GET", "DELETE"} else ["--data-binary", "rubbish"]
            words += ["--output", "/dev/null", "--write-out", "%{http_code}", f"http://127.0.0.1:{port}{path}"]
            return run("curl", *words, check=False).stdout

        def ask(*requests: Request) -> list[str]:
            with ThreadPoolExecutor(4) as pool:
                return list(pool.map(one, requests))

        yield ask
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def test_whoever_has_the_server_can_add_but_change_nothing(kept: Kept) -> None:
    database = kept.back_up("database", "all the rows")
    record = kept.back_up(f"record,of-{database[:8]}", "rows and schema")
    before = kept.files()

    with suppress(Exception):  # restic tries again and again
        kept.restic("forget", record, "--prune", timeout=4)
    kept.target.restic("unlock", "--remove-all", password=PASSWORD)
    signers = kept.target.read(f"{backups.ROOT}/.ssh/authorized_keys")
    files = [path[1:] for path in before]
    ways_out = ["/..", "/data/../..", "/data/%2e%2e/%2e%2e", f"/{backups.ROOT}", "//"]
    others = [f"{way}{name}" for way in ways_out for name in ("/.ssh/authorized_keys", "/.ssh/rc", "/other/config")]
    with http_to(kept) as ask:
        assert ask(("GET", "/config")) == ["200"]
        assert set(ask(*(("DELETE", path) for path in files))) == {"403"}
        assert set(ask(*(("POST", path) for path in files))) <= {"403", "405"}
        ask(*((method, path) for path in others for method in ("POST", "DELETE")))
        for path in ("/", "/data/", "/snapshots/"):
            deleted, _ = ask(("DELETE", path), ("PUT", path))
            assert not deleted.startswith("2")
    after = kept.files()
    assert {path: after.get(path) for path in before} == before
    assert {record, database} <= kept.ids()
    assert kept.target.read(f"{backups.ROOT}/.ssh/authorized_keys") == signers
    assert kept.target.sh(f"ls -A {backups.ROOT} {backups.ROOT}/.ssh").split() == [
        *(f"{backups.ROOT}:", ".ssh", APP),
        *(f"{backups.ROOT}/.ssh:", "authorized_keys"),
    ]
    assert kept.target.restic("check", "--read-data", password=PASSWORD).endswith("no errors were found\n")


def test_its_key_opens_neither_a_shell_nor_a_way_to_other_hosts(kept: Kept, tmp_path: Path) -> None:
    before = kept.files()
    ssh = ["ssh", *kept.ssh]
    for command in ("id", "rm -rf /srv/backups", "rclone purge /srv/backups", "restic version"):
        done = run(*ssh, kept.target.ssh, command, check=False, timeout=20)
        assert "uid=" not in done.stdout
    assert run("timeout", "3", "sftp", *kept.ssh, "-b", "/dev/null", kept.target.ssh, check=False).returncode
    (tmp_path / "file").write_text("rubbish", encoding="utf-8")
    assert run("timeout", "3", "scp", *kept.ssh, tmp_path / "file", f"{kept.target.ssh}:x", check=False).returncode
    ways = (["-W", "127.0.0.1:22"], ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"])
    for way in ways:
        done = run(*ssh, *way, kept.target.ssh, check=False, timeout=20)
        assert done.returncode, way
        assert "SSH-2.0" not in done.stdout
    assert (
        "PTY allocation request failed" in run(*ssh, "-tt", "-o", "LogLevel=INFO", kept.target.ssh, check=False).stderr
    )
    for code in blocks(kept.project, "deploy", "rm -rf"):  # as the runbook lets its reader try
        folder = tmp_path / "server"
        (folder / "infra").mkdir(parents=True)
        (folder / "infra/custom").symlink_to(kept.project / "infra/custom")
        (folder / "backup_key").symlink_to(kept.key)
        (folder / "backup.env").write_text(f"BACKUP_SSH={kept.target.ssh}\n", encoding="utf-8")
        run("bash", "-c", re.sub(r"(?m)^cd .*", f"cd {folder}", code), check=False, timeout=20)
    assert kept.files() == before


# ----- What is kept ----------------------------------------------------------------------------------------------

AGES = (0, 1, 2, 3, 5, 8, 9, 30, 75, 140)  # days
POLICY = {"KEEP_DAILY": 3, "KEEP_WEEKLY": 2, "KEEP_MONTHLY": 3, "KEEP_LAST": 2}


def what_the_policy_keeps(times: dict[int, datetime]) -> set[int]:
    """The newest of each of the last days, weeks and months, and the last ones at all."""
    newest_first = sorted(times, key=lambda each: times[each], reverse=True)
    periods: dict[str, Callable[[datetime], object]] = {
        "KEEP_LAST": lambda time: time,
        "KEEP_DAILY": lambda time: time.date(),
        "KEEP_WEEKLY": lambda time: time.isocalendar()[:2],
        "KEEP_MONTHLY": lambda time: (time.year, time.month),
    }
    wanted = set()
    for name, period in periods.items():
        seen: dict[object, int] = {}
        for each in newest_first:
            seen.setdefault(period(times[each]), each)
        wanted |= set(list(seen.values())[: POLICY[name]])
    return wanted


def add_there(kept: Kept, wanted: list[tuple[str, datetime, int]]) -> list[str]:
    """Put snapshots (tags, time, bytes) into the repository as if they had arrived at their times."""
    lines = [
        "set -e",
        f"export RESTIC_REPOSITORY={kept.target.path} RESTIC_PASSWORD='{PASSWORD}'",
        "previous=",
    ]
    for tags, when, size in wanted:
        shown = when.strftime("%Y-%m-%d %H:%M:%S")
        options = f'--tag "{tags.replace("PREVIOUS", "$previous")}" --time "{shown}"'
        add = f"TZ=UTC restic --no-cache backup --quiet --json --stdin {options}"
        lines += [
            f"id=$(head -c {size} /dev/urandom | {add} | tail -n 1 | jq -r .snapshot_id)",
            f'touch -d "{shown} UTC" $RESTIC_REPOSITORY/snapshots/$id; previous=$(echo $id | cut -c 1-8); echo $id',
        ]
    return kept.target.sh("\n".join(lines), user="backups").split()


def test_prune_keeps_what_the_policy_says_and_whatever_belongs_to_it(kept: Kept) -> None:
    kept.target.sh(f"rm -f {kept.target.path}/snapshots/*")  # of the tests before
    settings = "\n".join(f"{name}={value}" for name, value in POLICY.items())
    kept.host.ssh("root", f"cat >> /etc/prune-backups/{APP}.conf", stdin=f"{settings}\n")
    written = {age: NOW - timedelta(days=age, minutes=8) for age in AGES}
    kept_ages = what_the_policy_keeps(written)
    assert len(AGES) > len(kept_ages) > 4
    large = min(set(AGES) - kept_ages)  # which one goes depends on the day of the week and of the month
    wanted = []
    for age in reversed(AGES):
        before = written[age] - timedelta(minutes=2)
        wanted += [("database", before, 4_000_000 if age == large else 100)]
        wanted += [("record,of-PREVIOUS", written[age], 10)]
    alone = [("database", 5), ("volume", 3), ("database", 1), ("somebody-elses", 200)]
    wanted += [(tag, NOW - timedelta(days=days), 10) for tag, days in alone]
    ids = add_there(kept, wanted)
    pairs = dict(zip(reversed(AGES), zip(ids[::2], ids[1::2], strict=True), strict=False))
    kept_pairs = {each for age in kept_ages for each in pairs[age]}
    expected = kept_pairs | set(ids[-2:])

    dry = kept.prune("--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert set(re.findall(r"would forget  (\w+)", dry.stdout)) == {each[:8] for each in set(ids) - expected}
    assert kept.ids() == set(ids)

    size = int(kept.target.sh(f"du -sb {kept.target.path}").split()[0])
    (start,) = blocks(kept.project, "keeper", "systemctl start")
    shown = kept.host.ssh("root", f"set -euo pipefail\nname={APP}\n{start}").stdout
    assert kept.ids() == expected, shown
    assert kept.told.heard[-1] == ("/ok", "")
    assert (
        size - int(kept.target.sh(f"du -sb {kept.target.path}").split()[0]) > 3_900_000
    )  # what was dropped has given its space back
    assert kept.host.console("systemctl", "is-active", f"prune-backups@{APP}.timer").strip() == "active"
    # The server goes on: what was written anew belongs to whom its key comes in as.
    assert kept.target.sh(f"find {kept.target.path} ! -user backups") == ""
    kept.forget(kept.back_up("database", "more rows"))
    assert kept.restic("check").returncode == 0


@pytest.mark.parametrize("forged", [NOW + timedelta(days=1), NOW - timedelta(days=20)], ids=["future", "past"])
def test_a_time_that_somebody_on_the_server_chose_stops_everything(kept: Kept, forged: datetime) -> None:
    """A policy that believed it would drop the good backups of that day, week and month, or count from the future."""
    if not kept.ids():
        add_there(kept, [("database", NOW, 10), ("record,of-PREVIOUS", NOW, 10)])
    added = kept.back_up("record", "rubbish", forged)
    before = kept.ids()
    refused = kept.prune()
    assert refused.returncode == 1
    assert "nothing was forgotten" in refused.stderr
    assert f"snapshot {added[:8]} claims to be of {forged:%Y-%m-%d}" in refused.stderr
    assert kept.ids() == before
    path, text = kept.told.heard[-1]
    assert path == "/bad"
    assert added[:8] in text
    kept.forget(added)
    assert kept.prune("--dry-run").returncode == 0


def test_nothing_is_forgotten_where_the_repository_is_damaged_or_a_setting_is_wrong(kept: Kept) -> None:
    if not kept.ids():
        add_there(kept, [("database", NOW, 10), ("record,of-PREVIOUS", NOW, 10)])
    settings = f"/etc/prune-backups/{APP}.conf"
    before = kept.ids()
    for change, why in (
        ("chmod 644", "mode 0600"),
        ("sed -i $'$a KEEP_LAST=0'", "could forget every backup"),
        ("sed -i $'$a KEEP_DAILY=many'", "no whole number"),
        ("sed -i $'$a BACKUP_PASSWORD=wrong'", "could not be opened"),
    ):
        kept.host.ssh("root", f"cp -p {settings} /root/settings && {change} {settings}")
        refused = kept.prune()
        kept.host.ssh("root", f"mv /root/settings {settings}")
        assert refused.returncode == 1, change
        assert why in refused.stderr
    whole = kept.target.sh(f"cp -a {kept.target.path} /root/whole; echo yes")
    kept.target.truncate_a_pack()
    refused = kept.prune()
    assert whole
    assert refused.returncode == 1
    assert "the check found damage" in refused.stderr
    assert kept.ids() == before
    kept.target.sh(f"rm -rf {kept.target.path} && mv /root/whole {kept.target.path}")
    # A record whose dump is not there is no backup, whatever the policy says.
    (orphaned,) = add_there(kept, [("record,of-0123abcd", NOW, 10)])
    told = kept.prune()
    assert told.returncode == 1
    assert f"record {orphaned[:8]} names 0123abcd, which is not there" in told.stderr
    kept.forget(orphaned)


# ----- Object storage ---------------------------------------------------------------------------------------------


@dataclass
class Stored:
    """A bucket whose policy the runbook has set, and the server's key."""

    bucket: backups.Bucket
    project: Path
    program: Path
    server: tuple[str, str]

    def paste(self, words: str, key: tuple[str, str], **more: str) -> str:
        """Run the one block of the runbook with these words, as who has this key; what it prints, and complains."""
        (code,) = blocks(self.project, "machine", words)
        fill = {"https://REPLACE_WITH_THE_ENDPOINT": self.bucket.endpoint, "REPLACE_WITH_THE_BUCKET": self.bucket.name}
        fill |= {"REPLACE_WITH_THE_REGION": "us-east-1", "REPLACE_WITH_THE_NAME_OF_THE_KEY": self.server[0], **more}
        for placeholder, value in fill.items():
            code = code.replace(placeholder, value)
        command = [
            "docker",
            "exec",
            "--interactive",
            "--workdir",
            "/root",
            self.bucket.container.id,
            "bash",
            "-c",
            code,
        ]
        told = run(*command, stdin="\n".join(key) + "\n", check=False)
        return told.stdout + told.stderr

    def restic(self, *words: str, key: tuple[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run restic with a key, the server's by default."""
        environment = (
            os.environ | self.bucket.environment(key or self.server) | {"RESTIC_PASSWORD": PASSWORD, "TZ": "UTC"}
        )
        command = [str(self.program), "--no-cache", "-r", f"{self.bucket.repository}/{APP}", *words]
        return run(*command, env=environment, check=False, stdin="rows", timeout=60)

    def back_up(self, tags: str, *options: str) -> str:
        """Add a snapshot with the server's key; its id."""
        told = self.restic("backup", "--quiet", "--json", "--stdin", "--tag", tags, *options)
        assert told.returncode == 0, told.stderr
        return str(json.loads(told.stdout.splitlines()[-1])["snapshot_id"])

    def keys(self, folder: str) -> list[str]:
        """The files of a folder of the repository."""
        words = ["s3api", "list-objects-v2", "--bucket", self.bucket.name, "--prefix", f"{APP}/{folder}"]
        return [each["Key"] for each in json.loads(self.bucket.aws(*words) or "{}").get("Contents", [])]


@pytest.fixture(scope="module")
def stored(
    source: Path,
    restic: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stored]:
    """A bucket, made by the runbook."""
    ensure("s3:1")
    answers = {**profiles.REQUIRED, "backup_target": "s3"}
    project = rendering.render(source, tmp_path_factory.mktemp("stored") / "project", answers)
    with backups.bucket() as bucket:
        bucket.aws("s3api", "delete-bucket", "--bucket", bucket.name)
        run("docker", "cp", project / "infra", f"{bucket.container.id}:/root/infra")
        made = Stored(bucket, project, restic, bucket.key("server"))
        printed = made.paste("create-bucket", bucket.owner)
        assert "error" not in printed.lower(), printed
        assert made.restic("init").returncode == 0
        yield made


def test_the_policy_of_a_bucket_lets_the_server_add_and_nothing_else(stored: Stored) -> None:
    record = stored.back_up("record")
    assert stored.restic("check").returncode == 0  # which locks, and takes its lock away
    assert stored.keys("locks") == []
    assert stored.restic("forget", record).stderr.count("not authorized to perform: s3:DeleteObject")
    printed = stored.paste(
        'put-bucket-versioning --bucket "$bucket" --versioning-configuration Status=Suspended', stored.server
    )
    assert printed.count("AccessDenied") == 2, printed
    for words in (
        ["put-bucket-policy", "--policy", (stored.project / "infra/backup-host/bucket-policy.json").read_text()],
        ["delete-bucket-policy"],
        ["delete-bucket"],
    ):
        command = ["s3api", words[0], "--bucket", stored.bucket.name, *words[1:]]
        assert "AccessDenied" in stored.bucket.aws(*command, key=stored.server, check=False)

    (pack, *_) = stored.keys("data")
    stored.bucket.aws("s3", "cp", "-", f"s3://{stored.bucket.name}/{pack}", key=stored.server, stdin="rubbish")
    assert stored.restic("check", "--read-data").returncode
    listing = ["s3api", "list-object-versions", "--bucket", stored.bucket.name, "--prefix", pack]
    for version in json.loads(stored.bucket.aws(*listing))["Versions"]:
        one = ["s3api", "delete-object", "--bucket", stored.bucket.name, "--key", pack]
        told = stored.bucket.aws(*one, "--version-id", version["VersionId"], key=stored.server, check=False)
        assert "AccessDenied" in told
    printed = stored.paste("Versions[?IsLatest]", stored.bucket.owner, REPLACE_WITH_THE_FILE=pack)
    assert "error" not in printed.lower(), printed
    assert stored.restic("check", "--read-data").returncode == 0


def test_prune_works_on_a_bucket_with_the_key_that_may_delete(stored: Stored, tmp_path: Path) -> None:
    database = stored.back_up("database")
    record = stored.back_up(f"record,of-{database[:8]}")
    old = stored.back_up("database", "--time", "2026-01-01 00:00:00")
    text = (stored.project / "infra/backup-host/prune.conf").read_text(encoding="utf-8")
    text = text.replace("https://REPLACE_WITH_THE_ENDPOINT", stored.bucket.endpoint)
    text = text.replace("REPLACE_WITH_THE_BUCKET", stored.bucket.name)
    settings = tmp_path / "prune.conf"

    def prune(key: tuple[str, str]) -> subprocess.CompletedProcess[str]:
        lines = f"AWS_ACCESS_KEY_ID={key[0]}\nAWS_SECRET_ACCESS_KEY={key[1]}\nBACKUP_PASSWORD={PASSWORD}\n"
        settings.write_text(text + lines, encoding="utf-8")
        settings.chmod(0o600)
        path = f"{stored.program.parent}:{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(tmp_path)}
        return run(stored.project / "infra/bin/prune-backups", "--settings", settings, env=environment, check=False)

    assert "not everything could be forgotten" in prune(stored.server).stderr
    done = prune(stored.bucket.owner)
    assert done.returncode == 0, done.stderr
    left = {key.rpartition("/")[2] for key in stored.keys("snapshots")}
    assert {database, record} <= left
    assert old not in left
    # Within the time that old versions are kept, even this can be had back.
    gone = stored.bucket.aws(
        "s3api", "list-object-versions", "--bucket", stored.bucket.name, "--prefix", f"{APP}/snapshots"
    )
    assert old in gone
    forged = stored.back_up("record", "--time", f"{NOW + timedelta(days=2):%Y-%m-%d %H:%M:%S}")
    refused = prune(stored.bucket.owner)
    assert refused.returncode == 1
    assert f"{forged[:8]} claims to be of" in refused.stderr


def test_a_key_that_has_expired_is_refused(stored: Stored) -> None:
    key = stored.bucket.key("passing")
    stored.bucket.expire(key)
    began = time.monotonic()
    assert stored.restic("cat", "config", key=key).returncode
    assert time.monotonic() - began < 60
