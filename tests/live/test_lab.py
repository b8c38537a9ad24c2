"""The laboratory itself: what it promises to the tests that use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import demonstration, images
from tests.lab import engine as engines
from tests.lab.project import Project, quoted
from tests.lab.registry import Registry
from tests.lab.shell import LabError, run

pytestmark = [pytest.mark.live, pytest.mark.slow]

COMPOSE = """\
name: slipway-lab-self
services:
  api:
    image: ${API_IMAGE:?}
    environment:
      ASPNETCORE_ENVIRONMENT: Production
      ConnectionStrings__Database: Host=nowhere;Password='${PASSWORD:?}'
      JwtSettings__Secret: ${PASSWORD:?}
      JwtSettings__Issuer: issuer
      Cors__WebOrigin: ${LEAKED:-nothing leaked}
    healthcheck:
      test: bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080'
      interval: 1s
    volumes: ["data:/data"]
  idle:
    profiles: [green]
    image: ${API_IMAGE:?}
    entrypoint: sleep infinity
volumes:
  data: {}
"""


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A project's folder with a very small Compose file."""
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "docker-compose.prod.yml").write_text(COMPOSE)
    return tmp_path


def remains() -> str:
    """Containers and volumes of the small project."""
    label = "label=com.docker.compose.project=slipway-lab-self"
    return "".join(
        run("docker", *listing, "--quiet", "--filter", label).stdout for listing in (("ps", "-a"), ("volume", "ls"))
    )


def test_a_project_runs_with_its_server_environment_and_nothing_else(
    rendered: Path, app_image: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "from the test run")
    with Project(rendered, {"API_IMAGE": app_image("api"), "PASSWORD": "p$HOME #w"}) as project:
        link = rendered / "infra" / ".env"
        assert link.readlink() == Path("../state/compose.env")
        assert link.stat().st_mode & 0o777 == 0o600
        project.up()
        settings = project.containers("api")[0].facts["Config"]["Env"]
        assert "JwtSettings__Secret=p$HOME #w" in settings
        assert "Cors__WebOrigin=nothing leaked" in settings
        project.compose("--profile", "green", "up", "--detach", "idle")
        project.env.pop("PASSWORD")  # Compose cannot read the file any more, and still everything goes
        project.write_env()
        assert remains()
    assert not remains()


def test_a_service_that_does_not_get_healthy_fails_with_its_check_and_its_log(
    rendered: Path, app_image: Callable[..., str]
) -> None:
    with Project(rendered, {"API_IMAGE": app_image("api", behaviour="start-seconds=60"), "PASSWORD": "p"}) as project:
        project.compose("up", "--detach")
        with pytest.raises(LabError, match=r"(?s)api is .*Connection refused.* starting"):
            project.wait_healthy("api", timeout=8)


def test_a_value_that_env_cannot_hold_is_refused() -> None:
    assert quoted("https://shop.example") == "https://shop.example"
    assert quoted("a$b #c") == "'a$b #c'"
    with pytest.raises(ValueError, match="single quote"):
        quoted("it's")


def test_debian_is_pulled_where_the_official_images_can_be_had(registry: Registry) -> None:
    official = registry.push(images.ensure("debian:bookworm"), "library/debian", "bookworm-slim")
    try:
        assert images.pulled(official, "slipway-lab-ground:1", "a recipe")
        assert images.label_of("slipway-lab-ground:1") == "a recipe"
        settings = ("cat", "/etc/apt/apt.conf.d/90lab")
        assert run("docker", "run", "--rm", "slipway-lab-ground:1", *settings).stdout == images.APT_SETTINGS
        assert not images.pulled(f"{registry.host}/library/nothing:1", "slipway-lab-nothing:1", "a recipe")
    finally:
        run("docker", "image", "rm", official, "slipway-lab-ground:1", check=False)


def test_the_engine_outlives_one_of_two_users(engine: None) -> None:  # noqa: ARG001
    with engines.use():
        pass
    assert engines.answers()


def test_a_machine_without_an_engine_is_told_so_in_a_sentence(tmp_path: Path) -> None:
    program = "from tests.lab import engine\ntry:\n  engine.up()\nexcept engine.EngineMissing as e: print(e)"
    nowhere = {"PATH": os.environ["PATH"], "SLIPWAY_LAB_DIR": str(tmp_path), "DOCKER_HOST": "unix:///nowhere.sock"}
    said = subprocess.run([sys.executable, "-c", program], env=nowhere, capture_output=True, text=True, check=True)
    assert "DOCKER_HOST" in said.stdout


def lab(command: str) -> str:
    """Run a command of the laboratory as the Makefile does."""
    return run(sys.executable, "-m", "tests.lab", command, cwd=Path(__file__).parents[2]).stdout


def hosts_at(addresses: list[str]) -> list[str]:
    """The containers on the engine that have these addresses; other tests have servers of their own."""
    there = run("docker", "ps", "--all", "--quiet").stdout.split()
    form = "{{.Name}}{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}}"
    # Others may be gone meanwhile.
    rows = [row.split() for row in run("docker", "inspect", "--format", form, *there, check=False).stdout.splitlines()]
    return [name for name, *own in rows if set(own) & set(addresses)]


@pytest.mark.full  # each part of it is what the other tests use
def test_servers_are_brought_up_told_and_taken_down(engine: None) -> None:  # noqa: ARG001
    assert demonstration.holder() is None, "somebody's servers are up: make lab-down"
    told = lab("show")
    try:
        addresses = re.findall(r" admin@(\S+)  # (?:staging|production)\n", told)
        assert len(hosts_at(addresses)) == 2
        assert lab("show") == told, "what runs already was not told again"
        # The lines that it tells work as they stand.
        lines = [line.strip() for line in told.splitlines() if line.startswith("  ") and "ssh -i" not in line]
        commands = [line for line in lines if not line.startswith("https://")]
        answered = run("bash", "-euc", "\n".join(commands)).stdout
        assert answered.count("    ok    ") == 2
        assert "harbour-shop" in answered
        assert "Healthy" in answered
    finally:
        lab("hide")
    assert hosts_at(addresses) == []
    assert "no servers running" in lab("hide")
