"""Projects of one's own, to be broken on purpose."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIT = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.com")


def commit(project: Path) -> None:
    """Commit everything that Git does not ignore."""
    run([*GIT, "add", "--all"], cwd=project)
    run([*GIT, "commit", "--quiet", "--allow-empty", "--message", "Change"], cwd=project)


@pytest.fixture
def make_project(rendered: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies of rendered projects, committed to a repository."""

    def make(profile: str) -> Path:
        project = tmp_path / "project"
        shutil.copytree(rendered(profile), project)
        run(["git", "init", "--quiet", "--initial-branch=main"], cwd=project)
        commit(project)
        return project

    return make


@pytest.fixture
def project(make_project: Callable[[str], Path]) -> Path:
    """A project of the default answers."""
    return make_project("default")
