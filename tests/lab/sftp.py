"""A place for backups that speaks SFTP and nothing else, as a Storage Box does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab import images
from tests.lab.containers import Container
from tests.lab.place import PREFIX
from tests.lab.shell import LabError, run

USER = "backup-shop"
FOLDER = "/srv/backups/shop"


@dataclass(frozen=True)
class SftpTarget:
    """A running target on a network; who has its key finds the empty folder ``/shop``."""

    container: Container
    network: str
    port: int = 22

    @property
    def address(self) -> str:
        """Where containers on its network reach it."""
        return self.container.address(self.network)

    @property
    def repository(self) -> str:
        """What ``backup.env`` names it."""
        return f"sftp://{USER}@{self.address}{f':{self.port}' if self.port != 22 else ''}//shop"

    @property
    def known_hosts(self) -> str:
        """Lines of ``known_hosts``, one for each kind of key, as ``ssh-keyscan`` prints them."""
        wait = "until ls /etc/ssh/ssh_host_ed25519_key.pub >/dev/null 2>&1; do sleep 0.1; done"
        keys = self.container.exec("sh", "-c", f"{wait}; cat /etc/ssh/ssh_host_*_key.pub").stdout
        host = self.address if self.port == 22 else f"[{self.address}]:{self.port}"
        return "".join(f"{host} {' '.join(key.split()[:2])}\n" for key in keys.splitlines())

    def admit(self, public_key: str) -> None:
        """Let a key in."""
        self.container.exec("sh", "-c", f"echo '{public_key.strip()}' >/etc/ssh/keys/{USER}")

    def files(self, pattern: str) -> list[str]:
        """Files whose path in the folder matches, the oldest first."""
        found = self.container.exec("find", FOLDER, "-type", "f", "-path", pattern, "-printf", "%T@ %p\\n").stdout
        return [line.split(" ", 1)[1] for line in sorted(found.splitlines())]

    @contextmanager
    def truncated(self, path: str) -> Iterator[None]:
        """Half of a file is gone, for the length of a block."""
        self.container.exec(
            "sh", "-c", 'cp -a "$1" /root/kept && truncate -s "$(($(stat -c %s "$1") / 2))" "$1"', "sh", path
        )
        try:
            yield
        finally:
            self.container.exec("cp", "-a", "/root/kept", path)

    @contextmanager
    def missing(self, path: str) -> Iterator[None]:
        """A file is gone, for the length of a block."""
        self.container.exec("mv", path, "/root/gone")
        try:
            yield
        finally:
            self.container.exec("mv", "/root/gone", path)

    def contains(self, text: str) -> bool:
        """Whether any stored file has this text as it is."""
        found = run("docker", "exec", self.container.id, "grep", "-rqaF", text, FOLDER, check=False)
        if found.returncode > 1:
            raise LabError(found.stderr)
        return found.returncode == 0


@contextmanager
def sftp_target(network: str, *, port: int = 22) -> Iterator[SftpTarget]:
    """Run one, and remove it afterwards. It listens on port 22, and on 23 as Hetzner's Storage Boxes do."""
    name = f"{PREFIX}sftp-{uuid.uuid4().hex[:8]}"
    run("docker", "run", "--detach", "--name", name, "--network", network, images.ensure("sftp"))
    try:
        yield SftpTarget(Container(name), network, port)
    finally:
        run("docker", "rm", "--force", "--volumes", name)
