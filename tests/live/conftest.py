"""Live tests run real servers in the laboratory (``tests/lab``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import profiles, rendering
from tests.lab import images as lab_images
from tests.lab.fixtures import app_image, engine, figures, image, registry, run_project, shown
from tests.lab.registry import Registry
from tests.lab.server import Server, environment_of
from tests.proxy.programs import without_acme

__all__ = ["app_image", "engine", "figures", "image", "registry", "run_project", "shown"]


Render = Callable[[Mapping[str, Any]], Path]

# Files whose tests take minutes, the longest first. A worker gets a whole file, and the next one while it has two tests
# left: one that begins last, or waits behind a long test, would run alone.
LONGEST_FIRST = (
    *("test_ansible", "test_deploy", "test_faults", "test_backup", "test_pipeline", "test_upgrade", "test_server_lost"),
    *("test_hosts", "test_audit", "test_topology", "test_update", "test_followed", "test_pgbackrest", "test_lab"),
    "test_own_workflows",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files begin first (`make test-live` keeps this order among its workers)."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def render(source: Path, tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """`render(answers)`: a generated project under a Compose name of this test's own."""

    def project(answers: Mapping[str, Any]) -> Path:
        name = "slipway-lab-" + "".join(filter(str.isalnum, tmp_path.name.lower()))[-40:]
        return rendering.render(source, tmp_path / "project", {**profiles.REQUIRED, "compose_project": name, **answers})

    return project


@pytest.fixture(scope="session")
def pushed(registry: Registry) -> Callable[..., str]:
    """`pushed("api", "2", behaviour="…")`: a build of a stand-in by digest, on this engine and in the registry."""
    known: dict[tuple[str, ...], str] = {}

    def push(kind: str, version: str = "", **choices: str) -> str:
        key = (kind, version, *(f"{name}={value}" for name, value in sorted(choices.items())))
        if key not in known:
            local = lab_images.app(kind, version, **choices) if version else lab_images.ensure(kind)
            known[key] = registry.push(local, f"shop/{kind.replace(':', '-')}", version or "1")
        return known[key]

    return push


@pytest.fixture
def serve(render: Render, pushed: Callable[..., str]) -> Iterator[Callable[..., Server]]:
    """`serve(answers)`: a server on which the release "first" was deployed."""
    made: list[Server] = []

    def make(answers: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, **more: str) -> Server:
        answers = answers or {}
        path = render(answers)
        proxy = answers.get("proxy", "caddy")
        images = {"API_IMAGE": pushed("api", "1"), "POSTGRES_IMAGE": pushed("postgres:18")}
        images[f"{proxy.upper()}_IMAGE"] = pushed(proxy)
        if answers.get("worker", True):
            images["WORKER_IMAGE"] = pushed("worker", "1")
        if answers.get("frontends", "web"):
            images["WEB_IMAGE"] = pushed("web", "1")
        if proxy == "nginx":
            lacking_acme(path)
        server = Server(path, images | more, {**environment_of(path), **(env or {})})
        made.append(server)
        server.release("first")
        server.deploy("first", "--new-database")  # other tests may leave volumes on this engine
        return server

    yield make
    for server in made:
        with server:
            pass


def lacking_acme(project: Path) -> None:
    """Take the ACME module out of nginx.conf: the stand-in has none, and its certificate comes from the test."""
    file = project / "infra/nginx.conf"
    sites = file.read_text(encoding="utf-8").count("acme_certificate default;")
    text = without_acme(file.read_text(encoding="utf-8"), project, sites=sites)
    file.write_text(re.sub(r"(?m)^ +\w+_temp_path .*\n", "", text), encoding="utf-8")
