"""Projects in unusual surroundings: made outside Git, cloned in part, with Windows' line ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.update import releases
from tests.update.edits import COMPOSE
from tests.update.test_untouched import handed_over, state

VERSIONS = list(releases.releases())
Generated = Callable[[str, str], Path]
Start = Callable[[str, str], Path]


def is_fresh(project: Path, before: dict[str, tuple[int, bytes]], generated: Generated) -> None:
    """Check that a project is what a fresh copy would be, except for what was handed over."""
    kept = {file: content for file, content in before.items() if handed_over().match_file(file)}
    assert rendering.changes({**state(generated(releases.NEXT, "default")), **kept}, state(project)) == []


def change(project: Path) -> None:
    """Change a generated file, one that was renamed since, and one that was handed over."""
    for file, old, new in (
        (COMPOSE, b"max-size: 10m", b"max-size: 50m"),
        ("infra/server/modules.conf", b"install udf /bin/false", b"# udf: our backup disks"),
        ("infra/custom/test", b"set -euo pipefail", b"set -euxo pipefail"),
    ):
        path = project / file
        if path.exists():
            path.write_bytes(path.read_bytes().replace(old, new))


def is_kept(project: Path) -> None:
    """Check that these changes are there, without a conflict."""
    assert b"max-size: 50m" in (project / COMPOSE).read_bytes()
    assert b"set -euxo pipefail" in (project / "infra/custom/test").read_bytes()
    assert not list(project.rglob("*.rej"))
    assert releases.git(project, "diff", "--name-only", "--diff-filter=U") == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_project_that_was_made_outside_git_is_updated_once_it_is_committed(
    history: Path, generated: Generated, version: str, tmp_path: Path
) -> None:
    project = releases.generate(history, version, tmp_path / "project", profiles.PROFILES["default"])
    assert not (project / ".git").exists()
    with pytest.raises(AssertionError, match="exit code"):
        releases.update(project)
    before = rendering.contents(project)
    releases.begin(project, "Everything")
    releases.update(project)
    is_fresh(project, before, generated)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_shallow_clone_of_a_project_is_updated_as_a_whole_one(start: Start, version: str, tmp_path: Path) -> None:
    project = start(version, "default")
    change(project)
    releases.commit(project, "What this project changed")
    clone = tmp_path / "shallow"
    releases.git(tmp_path, "clone", "--quiet", "--depth=1", project.as_uri(), str(clone))
    releases.update(project)
    releases.update(clone)
    is_kept(clone)
    assert rendering.changes(state(project), state(clone)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkout_with_the_line_ends_of_windows_is_merged_as_any_other(
    start: Start, version: str, tmp_path: Path
) -> None:
    project = start(version, "default")
    change(project)
    releases.commit(project, "What this project changed")
    checkout = tmp_path / "windows"
    releases.git(tmp_path, "clone", "--quiet", "--config", "core.autocrlf=true", str(project), str(checkout))
    assert b"\r\n" in (checkout / COMPOSE).read_bytes()
    releases.update(project)
    releases.update(checkout)
    is_kept(checkout)
    # What is committed from there is what is committed from elsewhere.
    for folder in (project, checkout):
        releases.commit(folder, "Update")
    assert releases.git(project, "rev-parse", "HEAD^{tree}") == releases.git(checkout, "rev-parse", "HEAD^{tree}")


@pytest.mark.parametrize("version", VERSIONS)
def test_line_ends_of_windows_that_were_committed_cost_no_change_and_go_from_what_is_merged(
    start: Start, version: str
) -> None:
    project = start(version, "default")
    change(project)
    for file in rendering.files(project):
        path = project / file
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    releases.commit(project, "An editor on Windows")
    releases.update(project)
    is_kept(project)
    # Linux could run no script with them.
    assert b"\r\n" not in (project / COMPOSE).read_bytes()
    assert b"\r\n" not in (project / "infra/bin/check").read_bytes()
