"""A VPS made ready by the project's own runbook, and a repository from which releases are sent to it over SSH."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs import reading
from tests.lab.hosts import Host
from tests.lab.project import quoted
from tests.lab.server import MIGRATION, environment_of
from tests.lab.shell import LabError, clean_environment, run
from tests.lab.traffic import Site

RUNBOOK = "docs/runbooks/provision-server.md"
# A host is rebooted once, at the end. Clock and audit are the kernel's, which a container shares with its machine.
LEFT_OUT = re.compile(r"(?m)^(?:reboot|timedatectl .*|auditctl .*|systemctl restart auditd)$")


@dataclass(frozen=True)
class Release:
    """What ``infra/bin/pack`` made."""

    name: str
    archive: Path
    digest: str


@dataclass
class Repository:
    """A generated project in Git, and what its build leaves: images by digest, a migration script."""

    path: Path
    artifacts: Path
    images: dict[str, str]
    packed: int = 0

    @classmethod
    def of(cls, project: Path, images: Mapping[str, str]) -> Repository:
        """Put a rendered project into Git; ``images`` are what each release names by default."""
        artifacts = project.parent / f"{project.name}-artifacts"
        artifacts.mkdir(exist_ok=True)
        made = cls(project, artifacts, dict(images))
        made.git("init", "--quiet", "--initial-branch=main")
        made.commit("A shop")
        return made

    def git(self, *words: str) -> str:
        """Run Git here."""
        who = ("-c", "user.name=lab", "-c", "user.email=lab@example.com")
        return run("git", *who, *words, cwd=self.path).stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def fact(self, name: str) -> str:
        """A line of ``infra/deploy.conf``."""
        lines = (self.path / "infra/deploy.conf").read_text(encoding="utf-8").splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith(f"{name}="))

    def pack(self, *, migration: str = MIGRATION, **images: str) -> Release:
        """Pack a new commit as the build does; each one is another release."""
        self.packed += 1
        commit = self.commit(f"Build {self.packed}")
        lines = "".join(f"{name}={reference}\n" for name, reference in {**self.images, **images}.items())
        record, script = self.artifacts / "release.env", self.artifacts / "migrate.sql"
        record.write_text(f"# Images of the shop at commit {commit}, built today\n{lines}", encoding="utf-8")
        script.write_text(migration, encoding="utf-8")
        archive = self.artifacts / f"release-{self.packed}.tar.gz"
        words: list[str | Path] = ["infra/bin/pack", "--migrations", script, "--output", archive, record]
        name, digest = run(*words, cwd=self.path).stdout.split()
        return Release(name, archive, digest)


@dataclass
class Vps:
    """A server of a project's ``staging`` or ``production``, with its administrator and the pipeline's key."""

    host: Host
    repository: Repository
    environment: str
    env: dict[str, str] = field(default_factory=dict)
    root_may_come_in: bool = True

    @property
    def folder(self) -> str:
        """Where the project lives there."""
        return f"/opt/{self.repository.fact('APP')}"

    @property
    def names(self) -> dict[str, str]:
        """The host name of each service."""
        pairs = self.repository.fact(f"{self.environment.upper()}_HOSTS").split()
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def site(self) -> Site:
        """Where its users find it."""
        return Site(self.host.address, 443, self.names["api"], self.names.get("web", ""))

    def provision(self, *, env: bool = True) -> None:
        """Make it ready by the runbook, as a person would; what the image has already is not fetched again.

        Without ``env`` it gets no ``.env``: that comes from somewhere else.
        """
        if self.host.suite == "bookworm":
            self._lend_compose()
        for block in reading.blocks(self.repository.path / RUNBOOK):
            self.paste(block)
        self.host.reboot()
        if env:
            self._write_env()
        public = self.host.pipeline_key.with_suffix(".pub").read_text(encoding="utf-8")
        line = f'restrict,command="{self.folder}/bin/entry" {public}'
        self.host.ssh("deploy", "cat >> .ssh/authorized_keys", stdin=line)
        if (self.repository.path / "infra/bin/pull").exists():
            self.host.write(f"{self.folder}/bin/signers", f"pipeline {public}")
        known = self.repository.path / "infra/custom/known_hosts"
        known.write_text(
            (known.read_text(encoding="utf-8") if known.exists() else "")
            + self.host.known_hosts.read_text(encoding="utf-8"),
            encoding="utf-8",
        )

    def paste(self, block: reading.Block) -> None:
        """Run a block of the runbook where it belongs, unless it is not for here."""
        if block.place == "root" and self._is_for_here(block.code):
            code = LEFT_OUT.sub("", block.code)
            code = "set -euo pipefail\n" + code.replace("environment=staging", f"environment={self.environment}")
            if self.host.bare and self.host.suite == "bookworm":
                code = code.replace("docker.io docker-cli docker-compose", "docker.io")
            if self.root_may_come_in:
                self.host.ssh("root", code)
            else:
                self.host.as_root(code)
        elif block.place == "machine" and re.search(r"tar -C infra|sudo id|undo-sshd|undo-firewall", block.code):
            self._on_the_machine(block.code)
            self.root_may_come_in = self.root_may_come_in and "undo-sshd" not in block.code

    def _is_for_here(self, code: str) -> bool:
        """Whether a person would paste it here: not what an editor is opened for, not the other Debian's packages."""
        if "nano " in code:
            return False
        return "apt-get" not in code or (self.host.bare and "download.docker.com" not in code)

    def _lend_compose(self) -> None:
        """Give Debian 12 a Compose: Docker's own packages, which have it, are in no registry that a test can reach."""
        plugins = "/usr/local/lib/docker/cli-plugins"
        self.host.console("mkdir", "-p", plugins)
        run("docker", "cp", f"{plugins}/docker-compose", f"{self.host.container.id}:{plugins}/docker-compose")

    def _on_the_machine(self, code: str) -> None:
        ssh = " ".join(self.host.ssh_command("")[:-1])
        function = f'ssh() {{ command {ssh} "$@"; }}\naddress={self.host.address}\n'
        run("bash", "-euo", "pipefail", "-c", function + code, cwd=self.repository.path)

    def _write_env(self) -> None:
        self.env = self.values()
        self.write_env()

    def values(self) -> dict[str, str]:
        """What a person would write into ``.env``."""
        values = environment_of(self.repository.path)
        for name in ("HTTP_PORT", "HTTPS_PORT"):
            del values[name]
        for service, hostname in self.names.items():
            values[f"{service.upper().replace('-', '_')}_HOSTNAME"] = hostname
        return values

    def write_env(self, **changes: str) -> None:
        """Write ``.env`` anew, as a person would."""
        self.env |= changes
        text = "".join(f"{name}={quoted(value)}\n" for name, value in self.env.items())
        self.host.ssh("deploy", f"umask 077 && cat > {self.folder}/.env", stdin=text)

    def remote_command(self, *words: str | Path) -> tuple[list[str], dict[str, str]]:
        """``infra/bin/remote`` with the pipeline's key, and its environment."""
        variable = f"{self.environment.upper()}_SSH"
        environment = clean_environment(
            **{variable: f"deploy@{self.host.address}", "SSH_KEY_FILE": str(self.host.pipeline_key)}
        )
        return ["infra/bin/remote", self.environment, *(str(word) for word in words)], environment

    def remote(
        self, *words: str | Path, check: bool = True, timeout: float = 600, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Give the server a command, as the pipeline does."""
        command, environment = self.remote_command(*words)
        return run(*command, cwd=self.repository.path, env=environment | extra, check=check, timeout=timeout)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Give the server a command, and go on."""
        command, environment = self.remote_command(*words)
        return subprocess.Popen(
            command,
            cwd=self.repository.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def deploy(self, release: Release, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Send a release, and put it into service."""
        return self.remote("deploy", release.archive, *options, check=check)

    def live(self) -> dict[str, str]:
        """What runs, by digest."""
        return dict(line.split("=", 1) for line in self.remote("live").stdout.splitlines())

    def there(self, command: str, *, check: bool = True, timeout: float = 600) -> str:
        """Run a line of shell in the project's folder as ``deploy``, with the administrator's key."""
        told = self.host.ssh("deploy", f"cd {self.folder} && {command}", check=check, timeout=timeout)
        return told.stdout + ("" if check else told.stderr)

    def authority(self) -> Path:
        """The certificate of the proxy's own authority, which signs names below localhost."""
        project = self.repository.fact("COMPOSE_PROJECT")
        path = self.repository.artifacts / f"{self.environment}-root.crt"
        inside = "/data/caddy/pki/authorities/local/root.crt"
        path.write_text(self.there(f"docker exec {project}-caddy-1 cat {inside}"), encoding="utf-8")
        return path

    def curl_home(self) -> Path:
        """A folder for CURL_HOME, with which curl finds this server under its names, and trusts its authority."""
        folder = self.repository.artifacts / f"curl-{self.environment}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        lines = [*self.curl_names(), f'cacert = "{self.authority()}"', ""]
        (folder / ".curlrc").write_text("\n".join(lines), encoding="utf-8")
        return folder

    def curl_names(self) -> list[str]:
        """Lines of a .curlrc that lead the server's names to its address."""
        return [f'resolve = "{name}:{port}:{self.host.address}"' for name in self.names.values() for port in (80, 443)]

    def smoke(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Ask the site from outside, with certificates checked."""
        environment = clean_environment(CURL_HOME=str(self.curl_home()))
        return run("infra/bin/smoke", self.environment, cwd=self.repository.path, env=environment, check=check)

    def query(self, sql: str) -> str:
        """Ask the database as its administrator."""
        project = self.repository.fact("COMPOSE_PROJECT")
        command = f'psql -At -U {self.env["POSTGRES_USER"]} -d {self.env["POSTGRES_DB"]} -c "{sql}"'
        return self.there(f"docker exec {project}-postgres-1 {command}").strip()

    def wait_for_log(self, process: subprocess.Popen[str], words: str) -> str:
        """Read what a started command prints until ``words`` come."""
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if words in line:
                return printed
        raise LabError(f"{words!r} was never printed:\n{printed}")
