"""GitHub on this machine: workflows run by ``act``, on a runner inside or outside the admin network.

What is replaced, and what act cannot prove, stands in ``docs/pipeline.md``; the replacements are in ``actions/`` and in
``images/runner``.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import images
from tests.lab.shell import clean_environment, run
from tests.lab.vps import Repository
from tests.tooling import REPO, require

ACTIONS = Path(__file__).parent / "actions"
REPLACED = {
    "actions/setup-dotnet": "empty",
    "actions/setup-node": "empty",
    "actions/setup-python": "empty",
    "docker/setup-buildx-action": "empty",
    "docker/login-action": "login",
    "docker/bake-action": "bake",
    "actions/upload-artifact": "upload",
    "actions/download-artifact": "download",
}
RUNNERS = ("ubuntu-24.04", "self-hosted")


@dataclass
class Ran:
    """One run of a workflow."""

    status: int
    log: str

    def jobs(self) -> dict[str, str]:
        """Each job that ran, and how it ended."""
        found = re.findall(r"^\[[^/\]]+/([^\]]+)\].*Job (succeeded|failed)", self.log, re.MULTILINE)
        return {name.strip(): result for name, result in found}


@dataclass
class GitHub:
    """A repository's workflows, with its secrets, variables, artifacts, and the runs that were started by others."""

    repository: Repository
    shared: Path
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    runs: int = 0

    def __post_init__(self) -> None:
        for name in ("artifacts", "started", "images"):
            (self.shared / name).mkdir(parents=True, exist_ok=True)

    def act(
        self,
        event: str,
        workflow: str,
        *,
        job: str = "",
        network: str = "host",
        inputs: dict[str, str] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Ran:
        """Run a workflow of the committed state (or one job with those it needs), as its own run.

        ``facts`` are what the event tells besides its inputs.
        """
        self.runs += 1
        secrets, payload = self.shared / "secrets", self.shared / "event.json"
        secrets.touch(mode=0o600)
        known = self.secrets | {"GITHUB_TOKEN": "token-of-the-job"}
        secrets.write_text("".join(f"{name}={json.dumps(value)}\n" for name, value in known.items()))
        told = {"inputs": inputs or {}, "ref": "refs/heads/main", "repository": {}, **(facts or {})}
        payload.write_text(json.dumps(told))
        plugins = REPO / ".cache/tools/cli-plugins"
        mounts = f"-v {self.shared}:/shared -v {plugins}:/usr/libexec/docker/cli-plugins:ro"
        runner = images.ensure("runner:1")
        words = [
            *(str(require("act")), event, "--workflows", f".github/workflows/{workflow}.yml"),
            *("--eventpath", str(payload), *(["--job", job] if job else [])),
            *("--pull=false", "--action-offline-mode", "--network", network, "--container-options", mounts),
            *("--secret-file", str(secrets), "--actor", "somebody", "--defaultbranch", "main", "--rm"),
            *(word for name in RUNNERS for word in ("-P", f"{name}={runner}")),
            *(word for name, value in self.variables.items() for word in ("--var", f"{name}={value}")),
            *(word for name, value in self.environment.items() for word in ("--env", f"{name}={value}")),
            *(word for action in self._actions() for word in ("--local-repository", action)),
            *("--env", f"GITHUB_RUN_ID={self.runs}"),
        ]
        done = subprocess.run(
            words,
            cwd=self.repository.path,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    def _actions(self) -> list[str]:
        """``owner/name@commit=folder`` of everything that the workflows use."""
        used = set()
        for file in (self.repository.path / ".github/workflows").glob("*.yml"):
            used |= set(re.findall(r"uses: (\S+)@(\w+)", file.read_text(encoding="utf-8")))
        return [f"{name}@{commit}={ACTIONS / REPLACED[name]}" for name, commit in sorted(used) if name in REPLACED]

    def started(self) -> tuple[str, dict[str, str]] | None:
        """The workflow that the last run has started, and its inputs; each is told once."""
        waiting = sorted((self.shared / "started").iterdir())
        if not waiting:
            return None
        workflow, *fields = waiting[0].read_text(encoding="utf-8").splitlines()
        waiting[0].unlink()
        return workflow.removesuffix(".yml"), dict(each.split("=", 1) for each in fields)

    def artifacts(self) -> dict[str, Path]:
        """Every artifact by its name."""
        return {path.name: path for path in (self.shared / "artifacts").glob("*/*")}

    def take_in(self, image: str, name: str, migration: str) -> None:
        """What the build shall find instead of building it."""
        (self.shared / "images" / name).write_text(image, encoding="utf-8")
        (self.shared / "migrate.sql").write_text(migration, encoding="utf-8")


def bring_wheels(requirements: Path, folder: Path) -> None:
    """Bring what pip would fetch for the Python of the runner's image (Debian 13)."""
    machine = platform.machine()
    run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--only-binary=:all:"),
        "--python-version=3.13",
        *(f"--platform={each}_{machine}" for each in ("manylinux_2_28", "manylinux_2_17", "manylinux2014")),
        *("--requirement", requirements, "--dest", folder),
    )


def pull_request_artifact(github: GitHub, run_id: str, name: str, content: Path) -> None:
    """An artifact that the workflow of a pull request has kept, under a name of its choice."""
    folder = github.shared / "artifacts" / run_id / name
    folder.mkdir(parents=True)
    run("cp", "-a", f"{content}/.", folder)
    facts = {"head_branch": "main", "head_repository_id": 2, "repository_id": 1}
    (github.shared / "artifacts" / f"{run_id}.json").write_text(json.dumps(facts), encoding="utf-8")
