"""An update from every release to the working tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.update import releases

VERSIONS = list(releases.releases())
NAMES = ("default", "everything", "minimal")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its releases as tags."""
    return releases.clone(tmp_path_factory.mktemp("history") / "slipway")


def state(project: Path) -> dict[str, tuple[int, bytes]]:
    """What a project holds, without the template's version in the answers file."""
    found = rendering.contents(project)
    mode, answers = found[".copier-answers.yml"]
    return {**found, ".copier-answers.yml": (mode, re.sub(rb"_commit: .*\n", b"", answers))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_an_untouched_project_becomes_what_a_fresh_copy_would_be(
    history: Path, version: str, name: str, tmp_path: Path
) -> None:
    project = releases.start(history, version, tmp_path / "old", profiles.PROFILES[name])
    handed_over = {
        file: content
        for file, content in rendering.contents(project).items()
        if re.match(
            r"Dockerfile\.|\.dockerignore|\.pre-commit-config|\.gitignore|infra/custom/|docs/(adr|decisions)/"
            r"|infra/ansible/(inventory/|host_vars/|group_vars/all/20-custom\.yml)|infra/terraform/(custom|backend\.hcl)",
            file,
        )
    }
    releases.update(project)
    fresh = releases.start(history, releases.NEXT, tmp_path / "new", profiles.PROFILES[name])
    # What was handed over stays as it was made; the rest is as new.
    expected = {**state(fresh), **handed_over}
    expected = {file: content for file, content in expected.items() if file in handed_over or file in state(fresh)}
    assert rendering.changes(expected, state(project)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_what_belongs_to_the_project_survives(history: Path, version: str, tmp_path: Path) -> None:
    project = releases.start(history, version, tmp_path / "project", profiles.PROFILES["default"])
    (project / "docs/adr/0002-proxy.md").unlink()
    (project / "docs/adr/0001-provisioning.md").rename(project / "docs/adr/0001-servers-by-hand.md")
    (project / "docs/adr/0007-our-own.md").write_text("# Our own\n", encoding="utf-8")
    (project / "infra/custom/api.env").write_text("Smtp__Host=mail.example.com\n", encoding="utf-8")
    (project / "Dockerfile.api").write_text("FROM scratch\n", encoding="utf-8")
    (project / "docs/runbooks/rotate-secrets.md").unlink()
    compose = project / "infra/docker-compose.prod.yml"
    compose.write_text(compose.read_text(encoding="utf-8").replace("max-size: 10m", "max-size: 50m"), encoding="utf-8")
    releases.commit(project, "What this project changed")
    before = rendering.contents(project)

    releases.update(project)

    after = rendering.contents(project)
    for file in (
        "docs/adr/0001-servers-by-hand.md",
        "docs/adr/0007-our-own.md",
        "infra/custom/api.env",
        "Dockerfile.api",
    ):
        assert after[file] == before[file]
    decisions = [file for file in after if file.startswith("docs/adr/")]
    numbers = [Path(file).name[:4] for file in decisions if Path(file).name[:4].isdigit()]
    assert "docs/adr/0002-proxy.md" not in after
    assert len(numbers) == len(set(numbers)), decisions
    assert "docs/runbooks/rotate-secrets.md" not in after
    assert "max-size: 50m" in compose.read_text(encoding="utf-8")
    assert "<<<<<<<" not in compose.read_text(encoding="utf-8")
    assert not [file for file in after if file.endswith(".rej")]
