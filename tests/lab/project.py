"""A rendered project, run on the engine the way its server would run it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tests.lab.containers import Container
from tests.lab.shell import LabError, clean_environment, run, tail

COMPOSE_FILE = "infra/docker-compose.prod.yml"
HEALTHY_SECONDS = 90
PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*")


class Project:
    """A rendered project and the values of its server's ``.env``.

    The environment is written where the server has it: ``state/compose.env``, readable by its owner only, with
    ``infra/.env`` a link to it. Commands run from the project's folder, with nothing of the test run's environment.
    Use it as a context manager: leaving the block removes containers, volumes and networks, whatever happened.
    """

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        """Take over the rendered project at ``path`` and write its environment."""
        self.path = path
        self.env = dict(env)
        self._first_env = dict(env)
        self.write_env()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.down(volumes=True)
        except LabError:  # a test may have taken away what Compose needs to read the file
            self.env = dict(self._first_env)
            self.write_env()
            if self._readable():
                self.down(volumes=True)

    @cached_property
    def name(self) -> str:
        """The Compose project's name, as the generated file gives it."""
        return str(self.config()["name"])

    def write_env(self, **changes: str) -> None:
        """Write the environment file anew, with changed values if there are any; replaced by one rename."""
        self.env |= changes
        state, link = self.path / "state", self.path / "infra" / ".env"
        state.mkdir(exist_ok=True)
        fresh = state / "compose.env.new"
        fresh.touch(mode=0o600)
        fresh.write_text("".join(f"{name}={quoted(value)}\n" for name, value in self.env.items()))
        fresh.rename(state / "compose.env")
        if not link.is_symlink():
            link.symlink_to("../state/compose.env")

    def compose(self, *args: str, check: bool = True, timeout: float = 600, stdin: str | None = None) -> str:
        """``docker compose -f infra/docker-compose.prod.yml …`` from the project's folder; returns what it printed."""
        done = run(
            *("docker", "compose", "--ansi", "never", "-f", COMPOSE_FILE, *args),
            cwd=self.path,
            env=clean_environment(),
            stdin=stdin,
            check=check,
            timeout=timeout,
        )
        return done.stdout if check else done.stdout + done.stderr

    def config(self) -> dict[str, Any]:
        """The Compose file as Compose understands it, every variable replaced."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return found

    def up(self, *services: str, healthy: bool = True) -> None:
        """Start services (or all of them), and wait until each that has a health check is healthy."""
        self.compose("up", "--detach", "--remove-orphans", *services)
        if healthy:
            running = self.compose("ps", "--all", "--services").split()
            for service in services or running:
                self.wait_healthy(service)

    def containers(self, service: str) -> list[Container]:
        """The service's containers, stopped ones included."""
        return [Container(each) for each in self.compose("ps", "--all", "--quiet", service).split()]

    def wait_healthy(self, service: str, timeout: float = HEALTHY_SECONDS) -> None:
        """Wait for the service's containers to be healthy (or running, without a health check)."""
        until = time.monotonic() + timeout
        while True:
            containers = self.containers(service)
            states = [container.state for container in containers]
            if states and all(state in ("healthy", "running") for state in states):
                return
            gave_up = any(each.state == "exited" and not each.restarts for each in containers)
            if gave_up or time.monotonic() > until:
                checks = "\n".join(container.last_check for container in containers)
                raise LabError(f"{service} is {states or 'not there'}\n{checks}\n{tail(self.logs(service))}")
            time.sleep(0.5)

    def logs(self, *services: str) -> str:
        """What the services printed."""
        return self.compose("logs", "--no-color", *services, check=False)

    def exec(self, service: str, *command: str, user: str = "", stdin: str | None = None) -> str:
        """Run a command in a service's container; returns what it printed."""
        options = ["--user", user] if user else []
        return self.compose("exec", "-T", *options, service, *command, stdin=stdin)

    def address(self, service: str, network: str) -> str:
        """The service's own address on one of the project's networks, reachable from this machine."""
        return self.containers(service)[0].address(f"{self.name}_{network}")

    def _readable(self) -> bool:
        """Whether Compose accepts the file at all; if it never did, nothing was ever started."""
        try:
            self.config()
        except LabError:
            return False
        return True

    def down(self, *, volumes: bool = False) -> None:
        """Stop and remove everything of the project, of every profile."""
        options = ["--volumes"] if volumes else []
        self.compose("--profile", "*", "down", "--remove-orphans", "--timeout", "5", *options)


@contextmanager
def project(path: Path, env: Mapping[str, str]) -> Iterator[Project]:
    """A project for the length of a block; its logs go with a failure."""
    with Project(path, env) as running:
        try:
            yield running
        except Exception as failed:
            failed.add_note(tail(running.logs()))
            raise


def quoted(value: str) -> str:
    """A value for Compose's ``.env``: in single quotes, where nothing is replaced, unless it is plain."""
    if PLAIN_VALUE.fullmatch(value):
        return value
    if "'" in value or "\n" in value:
        raise ValueError("a value for .env can hold neither a single quote nor a line break")
    return f"'{value}'"
