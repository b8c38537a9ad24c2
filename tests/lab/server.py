"""A server's folder on this machine's engine, used as its own user would: releases arrive, their scripts deploy them.

It stands for a VPS wherever the network between hosts, the boot and sshd are not what a test is about.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.lab.containers import Container
from tests.lab.place import free_port
from tests.lab.project import quoted
from tests.lab.shell import LabError, clean_environment, run
from tests.lab.traffic import Site

# A user of nobody, who may talk to the engine: the scripts refuse root.
DEPLOY = 61999
SOCKET = Path("/var/run/docker.sock")

# What the API of the stand-ins needs, as Entity Framework would write it.
MIGRATION = """\
START TRANSACTION;
CREATE TABLE IF NOT EXISTS items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE IF NOT EXISTS "__EFMigrationsHistory" ("MigrationId" varchar(150) PRIMARY KEY);
INSERT INTO "__EFMigrationsHistory" VALUES ('20300101000000_Items') ON CONFLICT DO NOTHING;
COMMIT;
"""


class Server:
    """The folder ``/opt/APP`` of a server, and the person (or key) that deploys there.

    Use it as a context manager: leaving the block removes containers, volumes, networks and the folder.
    """

    def __init__(self, project: Path, images: Mapping[str, str], env: Mapping[str, str]) -> None:
        """Make the folders that the runbook makes, and ``.env``; ``images`` are what each release names by default."""
        self.project, self.images = project, dict(images)
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-lab-server-"))
        self.folder.chmod(0o755)
        for name in ("releases", "proxy"):
            (self.folder / name).mkdir()
        for name in ("state", "backups", "home"):
            (self.folder / name).mkdir(mode=0o700)
        self.env = dict(env)
        self.name = self._fact("COMPOSE_PROJECT")
        self.write_env()
        self._hand_over()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError, IndexError):  # a deploy that goes on although its test has failed
            pid = int((self.folder / "state/lock.holder").read_text(encoding="utf-8").split()[0])
            if str(self.folder) in Path(f"/proc/{pid}/environ").read_text(encoding="utf-8"):
                os.killpg(pid, signal.SIGKILL)
        label = f"label=com.docker.compose.project={self.name}"
        for kind, listing, removal in (
            ("container", ["ls", "--all", "--quiet"], ["rm", "--force", "--volumes"]),
            ("volume", ["ls", "--quiet"], ["rm"]),
            ("network", ["ls", "--quiet"], ["rm"]),
        ):
            found = run("docker", kind, *listing, "--filter", label).stdout.split()
            if found:
                run("docker", kind, *removal, *found, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fact(self, name: str) -> str:
        lines = (self.project / "infra/deploy.conf").read_text(encoding="utf-8").splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def _hand_over(self) -> None:
        if os.geteuid() == 0:
            run("chown", "--recursive", "--no-dereference", f"{DEPLOY}:{DEPLOY}", self.folder)

    def write_env(self, **changes: str) -> None:
        """Write ``.env`` anew, as a person would."""
        self.env |= changes
        file = self.folder / ".env"
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={quoted(value)}\n" for name, value in self.env.items()), encoding="utf-8")

    def release(
        self,
        name: str,
        *,
        migration: str = MIGRATION,
        change: Callable[[Path], None] | None = None,
        **images: str,
    ) -> Path:
        """Lay a release where the entry point would unpack it; ``change`` may alter its folder."""
        folder = self.folder / "releases" / name
        shutil.copytree(self.project / "infra", folder / "infra")
        shutil.copy(self.project / ".env.example", folder)
        if self._fact("MIGRATIONS") == "sql_script":
            (folder / "infra/migrations").mkdir()
            (folder / "infra/migrations/migrate.sql").write_text(migration, encoding="utf-8")
        lines = [f"{variable}={reference}\n" for variable, reference in {**self.images, **images}.items()]
        (folder / "release.env").write_text(f"# Images of a test at commit {name}\n" + "".join(lines), encoding="utf-8")
        if change:
            change(folder)
        self._hand_over()
        return folder

    def command(self, *words: str | Path) -> tuple[list[str], dict[str, str]]:
        """What starts ``words`` as the deploying user, and its environment."""
        environment = clean_environment(HOME=str(self.folder / "home"))
        if os.geteuid() != 0:
            return [str(word) for word in words], environment
        groups = SOCKET.stat().st_gid if SOCKET.exists() else DEPLOY
        user = ["setpriv", "--reuid", str(DEPLOY), "--regid", str(DEPLOY), "--groups", str(groups)]
        return [*self._namespace, *user, *(str(word) for word in words)], environment

    _namespace: Sequence[str] = ()

    def give_a_name(self) -> None:
        """Let the deploying user have one, as on a server: ``ssh`` does nothing for somebody whom it cannot name."""
        file = self.folder / "home/passwd"
        known = Path("/etc/passwd").read_text(encoding="utf-8")
        file.write_text(f"{known}deploy:x:{DEPLOY}:{DEPLOY}::{self.folder}/home:/bin/sh\n", encoding="utf-8")
        bind = 'mount --bind "$0" /etc/passwd && exec "$@"'
        self._namespace = ("unshare", "--mount", "sh", "-c", bind, str(file))

    def run(
        self, *words: str | Path, check: bool = True, stdin: str | None = None, timeout: float = 600, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder as the deploying user."""
        command, environment = self.command(*words)
        return run(*command, cwd=self.folder, env=environment | extra, check=check, stdin=stdin, timeout=timeout)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command there, and go on."""
        command, environment = self.command(*words)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def deploy(self, name: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Deploy a release by its own script."""
        return self.run(f"releases/{name}/infra/bin/deploy", *options, check=check)

    def script(self, name: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script of the live release."""
        return self.run(f"infra/bin/{name}", *options, check=check)

    def live(self) -> tuple[str, str]:
        """The release that serves, and its slot, as written down."""
        lines = dict(
            line.split("=", 1)
            for line in (self.folder / "state/compose.env").read_text(encoding="utf-8").splitlines()
            if "=" in line and not line.startswith("#")
        )
        return lines["RELEASE"], lines["COMPOSE_PROFILES"]

    def history(self) -> list[list[str]]:
        """What, from, to and result of every change."""
        lines = (self.folder / "state/history").read_text(encoding="utf-8").splitlines()
        return [line.split("\t")[2:6] for line in lines]

    def running(self, *, one_shots: bool = False) -> dict[str, Container]:
        """The container of each service that runs."""
        options = ["--filter", f"label=com.docker.compose.project={self.name}"]
        if not one_shots:
            options += ["--filter", "label=com.docker.compose.oneoff=False"]
        template = '{{.ID}} {{.Label "com.docker.compose.service"}}'
        rows = run("docker", "ps", "--no-trunc", *options, "--format", template).stdout.splitlines()
        return {service: Container(container) for container, service in (row.split() for row in rows)}

    @property
    def site(self) -> Site:
        """Where its users find it."""
        return Site("127.0.0.1", int(self.env["HTTPS_PORT"]), "api.localhost", self.env.get("WEB_HOSTNAME", ""))

    def address(self) -> str:
        """The proxy's address on the internal network, where it listens without TLS."""
        return self.running()[self._fact("PROXY")].address(f"{self.name}_internal")

    def query(self, sql: str) -> str:
        """Ask the database as its administrator."""
        command = ["psql", "-At", "-U", self.env["POSTGRES_USER"], "-d", self.env["POSTGRES_DB"], "-c", sql]
        return self.running()["postgres"].exec(*command).stdout.strip()

    def kill(self, running: subprocess.Popen[str], pattern: str) -> None:
        """Kill the script that ``running`` has started in the background, and only it, once its log has ``pattern``."""
        log, until = self.folder / "state/log", time.monotonic() + 120
        while True:
            text = log.read_text(encoding="utf-8") if log.exists() and log.stat().st_mtime > self._started else ""
            if pattern in text:
                break
            if running.poll() is not None or time.monotonic() > until:
                raise LabError(f"{pattern!r} never came:\n{text}")
            time.sleep(0.02)
        holder = (self.folder / "state/lock.holder").read_text(encoding="utf-8").split()[0]
        os.kill(int(holder), 9)
        running.wait(timeout=30)

    _started = 0.0

    def start_deploy(self, name: str) -> subprocess.Popen[str]:
        """Start a deploy, to be killed later."""
        self._started = time.time() - 0.01
        return self.start(f"releases/{name}/infra/bin/deploy")


def environment_of(project: Path) -> dict[str, str]:
    """A server's ``.env`` for a generated project, with ports of this machine and names that need no authority."""
    names = {"API_HOSTNAME": "api.localhost"}
    facts = (project / "infra/deploy.conf").read_text(encoding="utf-8")
    for front in next(line for line in facts.splitlines() if line.startswith("FRONTENDS=")).partition("=")[2].split():
        names[f"{front.upper().replace('-', '_')}_HOSTNAME"] = f"{front}.localhost"
    return {
        **names,
        "JWT_SECRET": 'a$ecret; with "quotes" and ${braces}',
        "JWT_ISSUER": "https://api.localhost",
        "WEB_ORIGIN": "https://web.localhost",
        "POSTGRES_DB": "shop",
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "administrator",
        "POSTGRES_OWNER_PASSWORD": "owner",
        "POSTGRES_APP_PASSWORD": "application",
        "HTTP_PORT": str(free_port()),
        "HTTPS_PORT": str(free_port()),
        "DEPLOY_HEALTH_SECONDS": "60",
        # Nobody answers there: names below localhost get certificates of Caddy's own authority.
        "ACME_DIRECTORY": "https://127.0.0.1:9/directory",
    }
