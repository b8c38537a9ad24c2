"""Containers as the tests meet them: look into one, run something in it, or start one for the length of a block."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.place import PREFIX
from tests.lab.shell import LabError, run, tail


@dataclass(frozen=True)
class Container:
    """One container, by its identifier or name."""

    id: str

    @property
    def facts(self) -> dict[str, Any]:
        """What ``docker inspect`` knows of it now."""
        (found,) = json.loads(run("docker", "container", "inspect", self.id).stdout)
        return dict(found)

    @property
    def state(self) -> str:
        """Its health where the image or the Compose file defines one, else running, exited, …."""
        state = self.facts["State"]
        return str(state["Health"]["Status"] if state.get("Health") else state["Status"])

    @property
    def last_check(self) -> str:
        """What the last health check printed."""
        log = (self.facts["State"].get("Health") or {}).get("Log") or [{"Output": "no health check ran"}]
        return str(log[-1]["Output"]).strip()

    @property
    def restarts(self) -> bool:
        """Whether the engine starts it again when it ends."""
        return self.facts["HostConfig"]["RestartPolicy"]["Name"] not in ("", "no")

    def address(self, network: str = "bridge") -> str:
        """Its own address on one of its networks, reachable from this machine."""
        return str(self.facts["NetworkSettings"]["Networks"][network]["IPAddress"])

    def exec(self, *command: str, user: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        options = ["--user", user] if user else []
        return run("docker", "exec", *options, self.id, *command, check=check)

    def logs(self) -> str:
        """What it printed, both outputs."""
        printed = run("docker", "logs", self.id, check=False)
        return printed.stdout + printed.stderr

    def wait_for_log(self, text: str, timeout: float = 60) -> None:
        """Wait until it has printed ``text``."""
        until = time.monotonic() + timeout
        while text not in self.logs():
            if time.monotonic() > until or self.facts["State"]["Status"] == "exited":
                raise LabError(f"{text!r} was never printed:\n{tail(self.logs())}")
            time.sleep(0.2)

    def stop(self, seconds: int = 10) -> float:
        """Stop it by its own stop signal; returns how long that took."""
        began = time.monotonic()
        run("docker", "stop", "--time", str(seconds), self.id)
        return time.monotonic() - began


def run_once(
    image: str, *command: str, options: tuple[str, ...] = (), timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new container of ``image`` and remove it; a failure is for the caller to judge."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    try:
        return run("docker", "run", "--rm", "--name", name, *options, image, *command, check=False, timeout=timeout)
    finally:
        run("docker", "rm", "--force", "--volumes", name, check=False)


@contextmanager
def started(image: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
    """A running container of ``image``; it and its anonymous volumes are gone afterwards."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    try:
        run("docker", "run", "--detach", "--name", name, *options, image, *command)
        yield Container(name)
    finally:
        run("docker", "rm", "--force", "--volumes", name, check=False)


@contextmanager
def network(*options: str) -> Iterator[str]:
    """A Docker network for the length of a block; containers find each other on it by name."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    run("docker", "network", "create", *options, name)
    try:
        yield name
    finally:
        run("docker", "network", "rm", name, check=False)


@contextmanager
def volume() -> Iterator[str]:
    """A Docker volume for the length of a block."""
    name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
    run("docker", "volume", "create", name)
    try:
        yield name
    finally:
        run("docker", "volume", "rm", "--force", name, check=False)
