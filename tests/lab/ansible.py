"""A VPS made ready by the project's own Ansible playbook, run on this machine as its administrator would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.lab.hosts import Host
from tests.lab.project import quoted
from tests.lab.shell import LabError, clean_environment, step, tail
from tests.lab.vps import Repository, Vps

BIN = Path(sys.executable).parent
COUNTS = re.compile(r"(\w+)=(\d+)")


@dataclass(frozen=True)
class Run:
    """How a run of the playbook ended: its exit code, what it printed, its recap."""

    code: int
    output: str
    counts: dict[str, int]

    @property
    def sentence(self) -> str:
        """What it printed, as one line: messages are folded."""
        return " ".join(self.output.split())


@dataclass(frozen=True)
class Playbook:
    """``infra/ansible`` of a project, for one of its servers."""

    repository: Repository
    host: Host
    environment: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where a person runs it."""
        return self.repository.path / "infra/ansible"

    def settle(self) -> None:
        """Write what is the project's own: where the server is, its values, and its host key."""
        (self.folder / "inventory/hosts.yml").unlink(missing_ok=True)
        ssh = f"-o UserKnownHostsFile={self.host.known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        facts = {
            "ansible_host": self.host.address,
            "ansible_ssh_private_key_file": str(self.host.key),
            "ansible_ssh_common_args": ssh,
        }
        self._write(f"inventory/{self.environment}.yml", {"servers": {"hosts": {self.environment: facts}}})
        keys = {"admin_keys": [self._public("admin")], "pipeline_keys": [self._public("pipeline")]}
        self._write(f"host_vars/{self.environment}.yml", keys | self.values)
        with (self.repository.path / "infra/custom/known_hosts").open("a", encoding="utf-8") as known:
            known.write(self.host.known_hosts.read_text(encoding="utf-8"))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content, width=1000), encoding="utf-8")

    def _public(self, owner: str) -> str:
        return (self.host.keys / f"{owner}.pub").read_text(encoding="utf-8").strip()

    def run(self, *words: str | Path, check: bool = True, timeout: float = 1200) -> Run:
        """``ansible-playbook site.yml`` with further words."""
        told = " ".join(str(word) for word in words)
        with step(f"ansible-playbook {told} on {self.host.name}"):
            done = subprocess.run(
                [BIN / "ansible-playbook", "site.yml", "--limit", self.environment, *map(str, words)],
                cwd=self.folder,
                env=clean_environment(LC_ALL="C.UTF-8", PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        made = Run(done.returncode, done.stdout, {name: int(number) for name, number in COUNTS.findall(recap)})
        if check and done.returncode:
            raise LabError(f"ansible-playbook {told}: exit {done.returncode}\n{tail(done.stdout)}")
        return made

    def env_file(self) -> Path:
        """What a person would write into the server's ``.env``, in a file on the own machine."""
        path = self.repository.artifacts / f"{self.environment}.env"
        values = self.server().env
        path.write_text("".join(f"{name}={quoted(value)}\n" for name, value in values.items()), encoding="utf-8")
        return path

    def server(self) -> Vps:
        """The server as releases are sent to it."""
        made = Vps(self.host, self.repository, self.environment)
        made.env = made.values()
        return made
