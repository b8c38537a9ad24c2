"""Releases of the template, for tests that update a project from one to the working tree.

A release is a commit `release: vX.Y.Z`. Tags are derived from these commits, since a clone may come without tags.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from copier import run_copy
from copier._cli import CopierApp
from plumbum import local

from migrations import migrate
from tests import rendering

# Above every release: what the working tree would be released as.
NEXT = "v99.99.99"

# What an update quotes, besides what Copier needs.
CHANGELOG = "CHANGELOG.md"

IDENTITY = ("-c", "user.name=Slipway tests", "-c", "user.email=tests@example.com", "-c", "commit.gpgsign=false")

# What somebody types, and what Renovate's manager for Copier runs.
BY_HAND = ("--trust", "--defaults", "--vcs-ref", NEXT)
BY_RENOVATE = (
    *("--skip-answered", "--defaults", "--trust"),
    *("--answers-file", ".copier-answers.yml", "--vcs-ref", NEXT),
)


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run Git in a folder with an identity of its own and return what it printed."""
    command = ["git", *IDENTITY, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout.strip()


def releases(revision: str = "HEAD", root: Path = rendering.ROOT) -> dict[str, str]:
    """Return the commits of a revision's releases by version, oldest first; without any, it stands for one itself."""
    log = git(root, "log", "--reverse", "--format=%H %s", revision)
    found = re.findall(r"^([0-9a-f]{40}) release: (v\d+\.\d+\.\d+)$", log, re.MULTILINE)
    # The pattern finds (commit, version).
    versions = {version: commit for commit, version in found}
    return versions or {"v0.0.0": git(root, "rev-parse", revision)}


def number(version: str) -> tuple[int, ...]:
    """Make versions comparable."""
    return tuple(int(part) for part in version.removeprefix("v").split("."))


def between(old: str, new: str) -> list[migrate.Release]:
    """Return what the releases after `old` up to `new` took away, oldest first."""
    table = sorted(migrate.releases().items(), key=lambda entry: number(entry[0]))
    return [release for version, release in table if number(old) < number(version) <= number(new)]


def clone(destination: Path) -> Path:
    """Make a repository of the template alone: a commit with a tag for each release, the working tree on top as `NEXT`.

    Copier checks a release out several times at each update, and tests have most of the files.
    """
    destination.mkdir(parents=True, exist_ok=True)
    git(destination, "init", "--quiet", "--initial-branch=main")
    git(destination, "fetch", "--quiet", "--no-tags", str(rendering.ROOT), "HEAD")
    for version, revision in releases().items():
        listed = git(destination, "ls-tree", "-r", revision, "--", *rendering.TEMPLATE_PATHS, CHANGELOG)
        git(destination, "read-tree", "--empty")
        git(destination, "update-index", "--index-info", stdin=listed + "\n")
        git(destination, "commit", "--quiet", "--message", f"release: {version}")
        git(destination, "tag", version)
    git(destination, "reset", "--quiet", "--hard")
    for name in rendering.TEMPLATE_PATHS:
        shutil.rmtree(destination / name, ignore_errors=True)
    rendering.copy_template(destination)
    shutil.copy2(rendering.ROOT / CHANGELOG, destination)
    commit(destination, "the working tree")
    git(destination, "tag", NEXT)
    # In one pack, as what people clone is, and without the rest of this repository.
    (destination / ".git/FETCH_HEAD").unlink()
    git(destination, "gc", "--quiet", "--prune=now")
    return destination


def answers_at(version: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return answers under the names that they had in a release."""
    names = {new: old for release in reversed(between(version, NEXT)) for old, new in release.answers.items()}
    return {names.get(name, name): value for name, value in answers.items()}


@cache
def questions(version: str) -> frozenset[str]:
    """Name the questions of a release, as they are called now."""
    text = git(rendering.ROOT, "show", f"{releases()[version]}:copier.yml")
    names = {old: new for release in between(version, NEXT) for old, new in release.answers.items()}
    return frozenset(names.get(name, name) for name in yaml.safe_load(text) if not name.startswith("_"))


def generate(source: Path, version: str, project: Path, answers: Mapping[str, Any]) -> Path:
    """Generate a project from a release."""
    data = answers_at(version, answers)
    run_copy(str(source), project, data=data, vcs_ref=version, defaults=True, unsafe=True, quiet=True)
    return project


def start(source: Path, version: str, project: Path, answers: Mapping[str, Any]) -> Path:
    """Generate a project from a release and commit it."""
    return begin(generate(source, version, project, answers), f"Slipway {version}")


def begin(project: Path, message: str) -> Path:
    """Make a folder a Git repository with one commit."""
    git(project, "init", "--quiet", "--initial-branch=main")
    commit(project, message)
    return project


def commit(project: Path, message: str) -> None:
    """Commit everything."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)


def update(project: Path, command: tuple[str, ...] = BY_RENOVATE) -> None:
    """Run `copier update` in a project, in this process."""
    with local.cwd(project):
        _, status = CopierApp.run(["copier", "update", *command], exit=False)
    assert status == 0, f"copier update {' '.join(command)}: exit code {status}"
