"""Whole servers: provisioned by the runbook, reached over SSH alone, looked at from outside, rebooted in mid-deploy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.lab import hosts
from tests.lab import images as lab_images
from tests.lab.registry import Registry
from tests.lab.vps import Repository, Vps

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def pushed(registry: Registry) -> Callable[..., str]:
    """`pushed("api", "2", behaviour="…")`: a build of a stand-in by digest, in the registry."""

    def push(kind: str, version: str = "", **choices: str) -> str:
        local = lab_images.app(kind, version, **choices) if version else lab_images.ensure(kind)
        return registry.push(local, f"shop/{kind.replace(':', '-')}", version or "1")

    return push


@pytest.fixture(scope="module")
def internet(registry: Registry) -> Iterator[hosts.Internet]:
    """The network between the servers, this machine as their administrator, and outsiders."""
    with hosts.internet(registry) as made:
        yield made


@pytest.fixture(scope="module")
def repository(
    source: Path,
    registry: Registry,
    internet: hosts.Internet,
    pushed: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Repository:
    """A project whose admin network is this machine's address, in Git."""
    answers = {
        **profiles.REQUIRED,
        "production_domain": "shop.localhost",  # names that need no authority
        "admin_networks": f"{internet.gateway}/32",
        "image_repository": f"{registry.host}/shop",
    }
    project = rendering.render(source, tmp_path_factory.mktemp("project") / "shop", answers)
    images = {
        "API_IMAGE": pushed("api", "1"),
        "WORKER_IMAGE": pushed("worker", "1"),
        "WEB_IMAGE": pushed("web", "1"),
        "POSTGRES_IMAGE": pushed("postgres:18"),
        "CADDY_IMAGE": pushed("caddy"),
    }
    return Repository.of(project, images)


@pytest.fixture(scope="module")
def server(internet: hosts.Internet, registry: Registry, repository: Repository) -> Vps:
    """A server on which a first release was deployed over SSH."""
    made = Vps(internet.host("staging", registry=registry), repository, "staging")
    made.provision()
    made.deploy(repository.pack())
    return made


def test_the_first_release_serves(server: Vps) -> None:
    print(server.smoke().stdout)
    print(server.remote("status").stdout)
