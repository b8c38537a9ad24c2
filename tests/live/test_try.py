"""infra/bin/try, as a newcomer runs it: nothing was built yet, and the site answers over TLS."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.place import free_port
from tests.lab.shell import clean_environment, run

pytestmark = pytest.mark.live

Render = Callable[[Mapping[str, Any]], Path]


@dataclass
class Try:
    """A project in which ``try`` is run."""

    project: Path
    home: Path
    images: dict[str, str]
    ports: tuple[int, int]

    @property
    def name(self) -> str:
        """The Compose project that it makes."""
        facts = (self.project / "infra/deploy.conf").read_text(encoding="utf-8")
        found = re.search("(?m)^COMPOSE_PROJECT=(.*)$", facts)
        assert found
        return f"{found[1]}-try"

    @property
    def folder(self) -> Path:
        """What it writes."""
        return self.home / "state/harbour-shop-try"

    def run(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        state = {"XDG_STATE_HOME": str(self.home / "state"), "TRY_PORTS": f"{self.ports[0]}:{self.ports[1]}"}
        environment = clean_environment(**{**state, **self.images, **env})
        return run("infra/bin/try", *words, cwd=self.project, env=environment, check=check)

    def get(self, host: str, path: str = "/") -> str:
        """Ask over TLS; the certificate must be good."""
        resolve = f"{host}:{self.ports[1]}:127.0.0.1"
        url = f"https://{host}:{self.ports[1]}{path}"
        told = run("curl", "-sS", "--fail", "--cacert", self.folder / "root.crt", "--resolve", resolve, url)
        return told.stdout

    def remains(self) -> list[str]:
        """Containers, volumes and networks of it."""
        label = f"label=com.docker.compose.project={self.name}"
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [line for kind in kinds for line in run("docker", *kind, "-q", "--filter", label).stdout.split()]


@pytest.fixture
def newcomer(render: Render, image: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., Try]]:
    """`newcomer(answers)`: a fresh project; the registry of the pins cannot be reached, so the images are named."""
    made: list[Try] = []

    def make(answers: Mapping[str, Any] | None = None) -> Try:
        major = (answers or {}).get("postgres_version", 18)
        images = {
            "POSTGRES_IMAGE": image(f"postgres:{major}"),
            "CADDY_IMAGE": image("caddy"),
            "NGINX_IMAGE": image("nginx"),
        }
        made.append(Try(render(answers or {}), tmp_path, images, (free_port(), free_port())))
        return made[-1]

    yield make
    for each in made:
        each.run("down")


def test_a_newcomer_sees_the_site_and_removes_it_again(newcomer: Callable[..., Try]) -> None:
    here = newcomer()
    told = here.run().stdout
    assert f"https://harbour-shop.localhost:{here.ports[1]}/" in told
    assert told.count("stand-in") == 2
    # The page was rendered by asking the API through the proxy, and the API asked the database as its own role.
    page = here.get("harbour-shop.localhost")
    assert "stand-in for api; database: try_app, PostgreSQL 18" in page
    assert here.get("api.harbour-shop.localhost", "/health") == "Healthy\n"
    # The line that it tells works as it stands.
    line = next(line.strip() for line in told.splitlines() if line.startswith("  curl"))
    assert "<h1>web</h1>" in run("bash", "-c", line).stdout
    # Only this machine reaches it.
    listening = run(
        "docker", "ps", "--filter", f"label=com.docker.compose.project={here.name}", "--format", "{{.Ports}}"
    )
    published = re.findall(r"(\S+)->", listening.stdout)
    assert len(published) == 3
    assert all(address.startswith("127.0.0.1:") for address in published)
    # As strictly confined as the real ones.
    for service in ("api-blue", "web-blue", "worker"):
        (container,) = run("docker", "ps", "-q", "--filter", f"name={here.name}-{service}-1").stdout.split()
        facts = run(
            "docker", "inspect", "--format", "{{json .HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}}", container
        )
        assert facts.stdout == '["ALL"] true\n'
    assert (here.folder / "compose.env").stat().st_mode & 0o077 == 0
    assert run("git", "status", "--short", cwd=here.project, check=False).stdout == ""
    before = here.remains()
    password = (here.folder / "compose.env").read_text(encoding="utf-8")
    here.run()
    assert (here.remains(), (here.folder / "compose.env").read_text(encoding="utf-8")) == (before, password)
    here.run("down")
    assert here.remains() == []
    assert not here.folder.exists()
    assert here.run("down").returncode == 0


def test_what_is_built_already_takes_the_place_of_its_stand_in(
    newcomer: Callable[..., Try], app_image: Callable[..., str]
) -> None:
    here = newcomer()
    (here.project / "infra/migrations").mkdir()
    migration = "CREATE TABLE IF NOT EXISTS items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);\n"
    (here.project / "infra/migrations/migrate.sql").write_text(migration, encoding="utf-8")
    # By the name that bake gives it.
    local = "ghcr.io/harbour/shop-api:local"
    run("docker", "tag", app_image("api", "7"), local)
    try:
        told = here.run().stdout
    finally:
        run("docker", "rmi", local)
    assert "Migrate" in told
    assert '"version":"7"' in here.get("api.harbour-shop.localhost")
    assert '"count":0' in here.get("api.harbour-shop.localhost", "/items")
    assert "stand-in" in told


@pytest.mark.parametrize(
    "answers",
    [
        {"proxy": "nginx", "frontends": "web admin", "dotnet_image": "chiseled", "worker_health": "heartbeat"},
        {"hosting_provider": "ovh", "database": "managed", "frontends": "", "worker": False, "migrations": "ef_bundle"},
    ],
    ids=["nginx, two front ends", "managed database, API alone"],
)
def test_other_answers(newcomer: Callable[..., Try], answers: dict[str, Any]) -> None:
    here = newcomer(answers)
    here.run()
    assert "database: try_app" in here.get("api.harbour-shop.localhost")
    for front in answers["frontends"].split():
        host = "harbour-shop.localhost" if front == "web" else f"{front}.harbour-shop.localhost"
        assert f"<h1>{front}</h1>" in here.get(host)


def test_it_touches_nothing_of_the_real_project_and_says_what_is_wrong(newcomer: Callable[..., Try]) -> None:
    here = newcomer()
    real = here.name.removesuffix("-try")
    run("docker", "volume", "create", "--label", f"com.docker.compose.project={real}", f"{real}_postgres_data")
    try:
        here.run("down")
        run("docker", "volume", "inspect", f"{real}_postgres_data")
    finally:
        run("docker", "volume", "rm", f"{real}_postgres_data")
    told = here.run(check=False, POSTGRES_IMAGE="localhost:9/nowhere:1")
    assert told.returncode == 1
    assert "cannot pull localhost:9/nowhere:1" in told.stderr
    told = here.run(check=False, TRY_PORTS="80")
    assert "TRY_PORTS is two numbers" in told.stderr
    told = here.run(check=False, DOCKER_HOST="unix:///nowhere")
    assert "the Docker engine does not answer" in told.stderr
