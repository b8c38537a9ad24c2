"""Where backups go: a host with a repository to which a key can only append, and S3 storage with policies."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.lab import images
from tests.lab.containers import Container, started
from tests.lab.hosts import Internet
from tests.lab.shell import LabError, run, tail

ROOT = "/srv/backups"
DISK = "256m"
SSHD = ("/usr/sbin/sshd", "-o", "LogLevel=VERBOSE", "-E", "/var/log/sshd.log")
START_SECONDS = 20


@dataclass(frozen=True)
class Target:
    """A host that keeps backups: sshd, rclone, restic, and a small disk of its own at ``/srv/backups``.

    It is reached from this machine and, where it stands in an `Internet`, from the hosts there. Its repository is
    ``/srv/backups/APP``, owned by the user ``backups``.
    """

    container: Container
    address: str
    app: str = "shop"
    user: str = "backups"

    @property
    def ssh(self) -> str:
        """The value of ``BACKUP_SSH``."""
        return f"{self.user}@{self.address}"

    @property
    def path(self) -> str:
        """The repository's folder there."""
        return f"{ROOT}/{self.app}"

    @property
    def known_hosts(self) -> str:
        """The line for ``infra/custom/known_hosts``, read from its console."""
        kind, key, *_ = self.read("/etc/ssh/ssh_host_ed25519_key.pub").split()
        return f"{self.address} {kind} {key}\n"

    def line_for(self, public: str) -> str:
        """The line of authorized_keys by which a key may add to the repository, and do nothing else."""
        command = f"rclone serve restic --stdio --append-only {self.path}"
        return f'restrict,command="{command}" {public.strip()}\n'

    def authorise(self, public: str) -> None:
        """Let a key in: a public key, or the whole line that ``infra/bin/backup --setup`` prints."""
        line = self.line_for(public) if public.startswith("ssh-") else f"{public.strip()}\n"
        self.sh(f"install -d -m 0755 {ROOT}/.ssh")
        lines = self.read(f"{ROOT}/.ssh/authorized_keys", missing="") + line
        self.write(f"{ROOT}/.ssh/authorized_keys", lines, mode="0644", owner="root")

    def sh(self, command: str, *, user: str = "root", check: bool = True, stdin: str | None = None) -> str:
        """Run a line of shell there, past SSH; without ``check`` with what it says on stderr."""
        options = ["--interactive"] if stdin is not None else []
        told = run(
            *("docker", "exec", *options, "--user", user, self.container.id, "sh", "-c", command),
            check=check,
            stdin=stdin,
        )
        return told.stdout + ("" if check else told.stderr)

    def read(self, path: str, *, missing: str | None = None) -> str:
        """A file of it; ``missing`` stands for one that is not there."""
        if missing is not None and not self.sh(f"ls {path} 2>/dev/null", check=False):
            return missing
        return self.sh(f"cat {path}")

    def write(self, path: str, text: str, *, mode: str = "0600", owner: str = "backups") -> None:
        """Write a file there."""
        self.sh(f"install -m {mode} -o {owner} /dev/stdin {path}", stdin=text)

    def start(self) -> None:
        """Let sshd answer."""
        run("docker", "exec", self.container.id, *SSHD)
        until = time.monotonic() + START_SECONDS
        while run("ssh-keyscan", "-T", "2", self.address, check=False).stdout.count("ssh-ed25519") == 0:
            if time.monotonic() > until:
                raise LabError(f"the backup host does not answer:\n{tail(self.log())}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End sshd and whoever is connected: connections are refused, the files stay."""
        names = "'^(sshd|sshd-.*|rclone)$'"
        self.sh(f"while pkill -KILL {names}; do sleep 0.1; done", check=False)

    def log(self) -> str:
        """What sshd says."""
        return self.read("/var/log/sshd.log", missing="")

    def fill_disk(self) -> None:
        """Leave no byte free at ``/srv/backups``."""
        self.sh(f"dd if=/dev/zero of={ROOT}/filler bs=64k 2>/dev/null; sync", check=False)

    def free_disk(self) -> None:
        """Take back what `fill_disk` wrote."""
        self.sh(f"rm -f {ROOT}/filler")

    def packs(self) -> list[str]:
        """The repository's data files, the largest first."""
        listing = self.sh(f"find {self.path}/data -type f -printf '%s %p\\n' | sort -rn")
        return [line.split()[1] for line in listing.splitlines()]

    def truncate_a_pack(self) -> str:
        """Cut the largest data file in half, as a failing disk would; returns its path."""
        (path, *_) = self.packs()
        self.sh(f"chmod u+w {path} && truncate --size=$(( $(stat -c %s {path}) / 2 )) {path}")
        return path

    def restic(self, *words: str, password: str, check: bool = True) -> str:
        """Run restic there on the repository's files, past the server's key."""
        line = shlex.join(["restic", "--no-cache", "-r", self.path, *words])
        return self.sh(f"RESTIC_PASSWORD=$(cat) {line}", user=self.user, check=check, stdin=password)

    def snapshots(self, *tags: str, password: str) -> list[dict[str, Any]]:
        """What is in the repository, oldest first, with all of these tags."""
        options = ["--tag", ",".join(tags)] if tags else []
        found = json.loads(self.restic("snapshots", "--json", *options, password=password))
        return sorted(found, key=lambda each: datetime.fromisoformat(each["time"][:19]))


@contextmanager
def target(where: Internet | None = None, *, app: str = "shop", disk: str = DISK) -> Iterator[Target]:
    """A host that keeps backups, on this engine's bridge or among the hosts of an `Internet`."""
    options = ("--init", "--tmpfs", f"{ROOT}:exec,size={disk}", "--hostname", "keeper")
    with ExitStack() as held:
        if where:
            container = where.stranger("backup-host:1", *options)
            address = container.address(where.name)
        else:
            container = held.enter_context(started(images.ensure("backup-host:1"), options=options))
            address = container.address()
        made = Target(container, address, app)
        made.sh(f"chmod 0755 {ROOT} && ssh-keygen -A >/dev/null")
        made.sh(f"install -d -m 0700 -o {made.user} -g {made.user} {made.path}")
        made.start()
        yield made


def restic_binary(folder: Path) -> Path:
    """The program from restic's image, put into a folder of this machine."""
    with started(images.ensure("restic:0.18"), "cat", "/dev/null") as container:
        run("docker", "cp", f"{container.id}:/usr/bin/restic", folder / "restic")
    return folder / "restic"


@dataclass(frozen=True)
class Bucket:
    """A bucket of an S3 server that checks keys and policies, and keeps old versions once it is told to.

    ``owner`` is the key that may do everything; `key` makes others, which may do what a policy says.
    """

    container: Container
    address: str
    name: str
    owner: tuple[str, str]

    @property
    def endpoint(self) -> str:
        """Its address, for this machine and for hosts of the same network."""
        return f"http://{self.address}:7070"

    @property
    def repository(self) -> str:
        """The bucket in restic's notation; a path may follow."""
        return f"s3:{self.endpoint}/{self.name}"

    def environment(self, key: tuple[str, str] | None = None) -> dict[str, str]:
        """What clients read a key from; the owner's unless another one is given."""
        access, secret = key or self.owner
        return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}

    def aws(self, *words: str, key: tuple[str, str] | None = None, check: bool = True, stdin: str = "") -> str:
        """Run ``aws`` against it; without ``check`` with what it says on stderr."""
        settings = {**self.environment(key), "AWS_ENDPOINT_URL": self.endpoint, "AWS_PAGER": ""}
        options = [word for name, value in settings.items() for word in ("--env", f"{name}={value}")]
        told = run(
            "docker", "exec", "--interactive", *options, self.container.id, "aws", *words, check=check, stdin=stdin
        )
        return told.stdout + ("" if check else told.stderr)

    def key(self, name: str) -> tuple[str, str]:
        """A new key, which may do nothing until a policy names it."""
        secret = secrets.token_hex(16)
        self._admin("create-user", "--access", name, "--secret", secret, "--role", "user")
        return name, secret

    def expire(self, key: tuple[str, str]) -> None:
        """Let a key be valid no more."""
        self._admin("delete-user", "--access", key[0])

    def _admin(self, *words: str) -> None:
        access, secret = self.owner
        login = ("--access", access, "--secret", secret, "--endpoint-url", "http://127.0.0.1:7070")
        self.container.exec("versitygw", "admin", *login, *words)


@contextmanager
def bucket(where: Internet | None = None, *, name: str = "backups") -> Iterator[Bucket]:
    """An empty bucket, on this engine's bridge or among the hosts of an `Internet`."""
    owner = ("owner", secrets.token_hex(16))
    options = ("--env", f"ROOT_ACCESS_KEY={owner[0]}", "--env", f"ROOT_SECRET_KEY={owner[1]}")
    with ExitStack() as held:
        if where:
            container = where.stranger("s3:1", *options)
            made = Bucket(container, container.address(where.name), name, owner)
        else:
            container = held.enter_context(started(images.ensure("s3:1"), options=options))
            made = Bucket(container, container.address(), name, owner)
        until = time.monotonic() + START_SECONDS
        while run("curl", "--silent", "--max-time", "2", made.endpoint, check=False).returncode:
            if time.monotonic() > until:
                raise LabError(f"the S3 server does not answer:\n{tail(container.logs())}")
            time.sleep(0.1)
        made.aws("s3api", "create-bucket", "--bucket", name)
        yield made
