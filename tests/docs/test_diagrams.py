"""The picture in infra/README.md: Mermaid itself reads it, and it shows the services that the Compose file has."""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests import profiles, tooling
from tests.docs import reading

if TYPE_CHECKING:
    from collections.abc import Callable

# renovate: datasource=npm depName=mermaid
MERMAID = "11.17.2"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def mermaid() -> Path:
    """The folder in which Mermaid is installed; it is installed once and kept."""
    tooling.require("node", version="20")
    npm = tooling.require("npm")
    folder = tooling.REPO / ".cache" / "mermaid"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = folder / "node_modules" / "mermaid" / "package.json"
        if not installed.exists() or json.loads(installed.read_text(encoding="utf-8"))["version"] != MERMAID:
            (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error"]
            result = tooling.run([npm, "install", *options, f"mermaid@{MERMAID}"], cwd=folder, check=False)
            if result.returncode != 0:
                tooling.unavailable(f"npm cannot install mermaid {MERMAID}: {result.stderr.strip()[-300:]}")
    return folder


def errors(folder: Path, diagrams: list[str]) -> list[str]:
    """Return Mermaid's verdict on each diagram: an empty text, or the error."""
    result = tooling.run(["node", HERE / "parse-diagrams.mjs", folder], input=json.dumps(diagrams))
    told: list[str] = json.loads(result.stdout)
    return told


def diagram(project: Path) -> str:
    """Return the picture of a project."""
    found = [block.code for block in reading.blocks(project / "infra" / "README.md") if block.language == "mermaid"]
    assert len(found) == 1
    return found[0]


def test_mermaid_reads_the_picture_of_every_profile(rendered: Callable[[str], Path], mermaid: Path) -> None:
    names = [*profiles.PROFILES]
    told = errors(mermaid, [diagram(rendered(name)) for name in names])
    assert {name: error for name, error in zip(names, told, strict=True) if error} == {}


def test_mermaid_refuses_a_broken_picture(mermaid: Path) -> None:
    assert all(errors(mermaid, ["flowchart LR\n  a[x(y] --> b\n", 'flowchart LR\n  a["x"] --> end\n']))


@pytest.mark.parametrize("profile", profiles.combinations_by_name())
def test_the_picture_shows_the_services_networks_and_ports_of_the_compose_file(
    rendered: Callable[[str], Path], profile: str
) -> None:
    project = rendered(profile)
    compose = yaml.safe_load((project / "infra" / "docker-compose.prod.yml").read_text(encoding="utf-8"))
    picture = diagram(project)
    labels = re.findall(r'[\[(]"([^"]+)"[\])]', picture)
    shown = {re.split(r" :|<br/>", label)[0] for label in labels}
    services = set(compose["services"]) - {"archive", "migrate", "roles"}
    assert services <= shown
    assert shown - services <= {
        "Browsers, clients",
        "One server per environment",
        "Slot blue",
        "Slot green",
        "Mail, identity, payment",
        "Repository of the backups",
    } | {label for label in shown if label.startswith("Managed PostgreSQL")}
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert '|"80/tcp, 443/tcp, 443/udp"|' in picture
    for network in compose["networks"]:
        assert f"\n| `{network}` |" in (project / "infra" / "README.md").read_text(encoding="utf-8")
    assert ('|"data"|' in picture) == ("data" in compose["networks"])
    assert ('|"egress"|' in picture) == ("egress" in compose["networks"])
