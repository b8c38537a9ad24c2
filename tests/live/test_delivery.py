"""How a release reaches a server: packed from a commit, sent to the one program a deploy key may run, checked there."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import images as lab_images
from tests.lab.place import lab_dir
from tests.lab.registry import Registry
from tests.lab.server import MIGRATION, Server, environment_of
from tests.lab.shell import run

pytestmark = pytest.mark.live

Render = Callable[[Mapping[str, Any]], Path]


@dataclass
class Delivery:
    """A repository with a build's artifacts, and an empty server with its entry point."""

    repository: Path
    server: Server
    artifacts: Path

    def pack(self) -> tuple[str, Path, str]:
        """Pack the newest commit; the release's name, the archive and its SHA-256."""
        commit = run("git", "rev-parse", "HEAD", cwd=self.repository).stdout.strip()
        lines = "".join(f"{name}={reference}\n" for name, reference in self.server.images.items())
        record = self.artifacts / "release.env"
        record.write_text(f"# Images of the shop at commit {commit}, built today\n{lines}", encoding="utf-8")
        archive = self.artifacts / "release.tar.gz"
        packed = run(
            *("infra/bin/pack", "--migrations", self.artifacts / "migrate.sql", "--output", archive, record),
            cwd=self.repository,
        )
        name, digest = packed.stdout.split()
        return name, archive, digest

    def entry(
        self, command: str, stdin: bytes = b"", *, user: str = "", token: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Give the entry point a command as sshd does for a restricted key."""
        words, environment = self.server.command(self.server.folder / "bin/entry")
        done = subprocess.run(
            words,
            cwd="/",
            env=environment | {"SSH_ORIGINAL_COMMAND": command},
            input=f"{user}\n{token}\n".encode() + stdin,
            capture_output=True,
            timeout=300,
            check=False,
        )
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def delivery(render: Render, registry: Registry, tmp_path: Path) -> Iterator[Delivery]:
    """A project in Git and a server to which nothing was sent yet."""
    project = render({"worker": False, "image_repository": f"{registry.host}/shop"})
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "A shop"]):
        run("git", "-c", "user.name=lab", "-c", "user.email=lab@example.com", *command, cwd=project)
    wanted = {"API_IMAGE": "api", "WEB_IMAGE": "web", "POSTGRES_IMAGE": "postgres:18", "CADDY_IMAGE": "caddy"}
    images = {
        variable: registry.push(lab_images.ensure(name), f"shop/{variable.lower()}", "1")
        for variable, name in wanted.items()
    }
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    (artifacts / "migrate.sql").write_text(MIGRATION, encoding="utf-8")
    with Server(project, images, environment_of(project)) as server:
        (server.folder / "bin").mkdir()
        shutil.copy(project / "infra/bin/entry", server.folder / "bin")
        yield Delivery(project, server, artifacts)


def archive_of(*members: tarfile.TarInfo) -> bytes:
    """An archive of these members alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


def test_a_release_is_packed_the_same_twice_sent_deployed_and_told(delivery: Delivery) -> None:
    name, archive, digest = delivery.pack()
    assert delivery.pack() == (name, archive, digest)
    told = delivery.entry(
        f"deploy {name} {digest} --by build[bot] --new-database",
        archive.read_bytes(),
        user="ci",
        token="t0ken-of-the-job",
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"Release {name} serves" in told.stdout
    live = delivery.entry("live").stdout
    assert live.splitlines()[:2] == [f"RELEASE={name}", f"SHA256={digest}"]
    assert {line for line in live.splitlines() if "_IMAGE=" in line} == {
        f"{variable}={reference}" for variable, reference in delivery.server.images.items()
    }
    assert "by build[bot]" in delivery.entry("status").stdout
    # The registry's token is nowhere any more.
    # The laboratory itself may lie in memory.
    grep = ("grep", "-rlsF", f"--exclude-dir={lab_dir().name}", "t0ken-of-the-job")
    assert run(*grep, delivery.server.folder, "/dev/shm", check=False).stdout == ""
    again = delivery.entry("redeploy --by somebody")
    assert again.returncode == 0, again.stdout
    assert delivery.server.live() == (name, "green")


def test_what_changed_on_the_way_is_refused(delivery: Delivery) -> None:
    name, archive, digest = delivery.pack()
    content = archive.read_bytes()
    told = delivery.entry(f"deploy {name} {digest}", content[:-1] + b"x")
    assert told.returncode == 2
    assert "is not the one that was sent" in told.stderr
    # Another digest of an image makes another archive: what was promised for staging cannot be exchanged.
    other = re.sub("sha256:....", "sha256:0000", delivery.server.images["API_IMAGE"])
    delivery.server.images["API_IMAGE"] = other
    _, changed, _ = delivery.pack()
    told = delivery.entry(f"deploy {name} {digest}", changed.read_bytes())
    assert told.returncode == 2
    assert not list((delivery.server.folder / "releases").iterdir())


def test_a_name_can_be_used_once(delivery: Delivery) -> None:
    name, archive, digest = delivery.pack()
    (delivery.server.folder / "releases" / name).mkdir()
    told = delivery.entry(f"deploy {name} {digest}", archive.read_bytes())
    assert told.returncode == 2
    assert "is on this server already, with other content" in told.stderr


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """A member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("infra", tarfile.SYMTYPE, "/etc")],
        [member("infra/link", tarfile.LNKTYPE, "/etc/passwd")],
        [member("infra/pipe", tarfile.FIFOTYPE)],
        [member("release.env")],
    ],
    ids=["link out", "hard link", "pipe", "no release"],
)
def test_an_archive_that_is_no_release_is_refused(delivery: Delivery, members: list[tarfile.TarInfo]) -> None:
    content = archive_of(*members)
    told = delivery.entry(f"deploy evil {hashlib.sha256(content).hexdigest()}", content)
    assert told.returncode == 2
    assert not [path for path in (delivery.server.folder / "releases").iterdir() if not path.name.startswith(".")]


@pytest.mark.parametrize(
    "command",
    [
        "bash",
        "deploy ../../etc 0",
        "deploy x; id",
        "deploy r1 $(id)",
        "rollback --by `id`",
        "maintenance ../x",
        "live /etc/passwd; cat /etc/passwd",
        "status && id",
        "",
    ],
)
def test_a_key_can_do_nothing_else(delivery: Delivery, command: str) -> None:
    told = delivery.entry(command)
    assert told.returncode == 2, told.stdout
    assert "uid=" not in told.stdout + told.stderr
    assert told.stderr.startswith("entry: ")


def test_pack_refuses_an_image_without_a_digest_and_a_missing_migration(delivery: Delivery) -> None:
    record = delivery.artifacts / "release.env"
    record.write_text("API_IMAGE=shop/api:latest\n", encoding="utf-8")
    told = run("infra/bin/pack", record, cwd=delivery.repository, check=False)
    assert told.returncode == 1
    assert "API_IMAGE" in told.stderr
    assert "has no digest" in told.stderr
    record.write_text(f"API_IMAGE={delivery.server.images['API_IMAGE']}\n", encoding="utf-8")
    told = run("infra/bin/pack", record, cwd=delivery.repository, check=False)
    assert told.returncode == 1
    assert "the migration script is missing" in told.stderr
