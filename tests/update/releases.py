"""Releases of the template, for tests that update a project from one to the working tree.

A release is a commit `release: vX.Y.Z`. Tags are derived from these commits, since a clone may come without tags.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from copier import run_copy, run_update

from tests import rendering

# Above every release: what the working tree would be released as.
NEXT = "v99.99.99"

IDENTITY = ("-c", "user.name=Slipway tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder with an identity of its own and return what it printed."""
    command = ["git", *IDENTITY, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def releases(revision: str = "HEAD", root: Path = rendering.ROOT) -> dict[str, str]:
    """Return the commits of a revision's releases by version, oldest first; without any, it stands for one itself."""
    log = git(root, "log", "--reverse", "--format=%H %s", revision)
    found = re.findall(r"^([0-9a-f]{40}) release: (v\d+\.\d+\.\d+)$", log, re.MULTILINE)
    # The pattern finds (commit, version).
    versions = {version: commit for commit, version in found}
    return versions or {"v0.0.0": git(root, "rev-parse", revision)}


def clone(destination: Path) -> Path:
    """Clone this repository with a tag for each release, and the working tree committed on top as `NEXT`."""
    git(rendering.ROOT, "clone", "--quiet", "--no-tags", str(rendering.ROOT), str(destination))
    for version, commit in releases().items():
        git(destination, "tag", version, commit)
    for name in rendering.TEMPLATE_PATHS:
        shutil.rmtree(destination / name, ignore_errors=True)
    rendering.copy_template(destination)
    git(destination, "add", "--all")
    git(destination, "commit", "--quiet", "--allow-empty", "--message", "the working tree")
    git(destination, "tag", NEXT)
    return destination


def start(source: Path, version: str, project: Path, answers: Mapping[str, Any]) -> Path:
    """Generate a project from a release and commit it."""
    run_copy(str(source), project, data=dict(answers), vcs_ref=version, defaults=True, unsafe=True, quiet=True)
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, f"Slipway {version}")
    return project


def commit(project: Path, message: str) -> None:
    """Commit everything."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)


def update(project: Path) -> None:
    """Update a project to the working tree, as an update bot does."""
    run_update(project, vcs_ref=NEXT, defaults=True, overwrite=True, skip_answered=True, unsafe=True, quiet=True)
