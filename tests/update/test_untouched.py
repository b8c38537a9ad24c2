"""A project in which nothing was changed becomes what a fresh copy would be: every release, all profiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pathspec
import pytest
import yaml

from tests import profiles, rendering
from tests.update import releases


@cache
def handed_over() -> pathspec.GitIgnoreSpec:
    """Return the patterns of files that an update never touches, as Copier reads them."""
    settings = yaml.safe_load((rendering.ROOT / "copier.yml").read_text(encoding="utf-8"))
    return pathspec.GitIgnoreSpec.from_lines(settings["_skip_if_exists"])


def state(project: Path) -> dict[str, tuple[int, bytes]]:
    """What a project holds, without the template's version in the answers file."""
    found = rendering.contents(project)
    mode, answers = found[".copier-answers.yml"]
    return {**found, ".copier-answers.yml": (mode, re.sub(rb"_commit: .*\n", b"", answers))}


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("version", releases.releases())
def test_an_untouched_project_becomes_what_a_fresh_copy_would_be(
    start: Callable[[str, str], Path],
    generated: Callable[[str, str], Path],
    history: Path,
    version: str,
    profile: str,
    tmp_path: Path,
) -> None:
    project = start(version, profile)
    before = rendering.contents(project)
    releases.update(project)
    fresh = generated(releases.NEXT, profile)
    answers = profiles.PROFILES[profile]
    if newer := answers.keys() - releases.questions(version):
        # What the release did not ask is answered by its default.
        known = {name: value for name, value in answers.items() if name not in newer}
        fresh = releases.generate(history, releases.NEXT, tmp_path / "fresh", known)
    # What was handed over stays as it was made; the rest is as new.
    kept = {file: content for file, content in before.items() if handed_over().match_file(file)}
    assert rendering.changes({**state(fresh), **kept}, state(project)) == []
    # Bots take over what is not staged: a file that is would be missing in their pull request.
    assert releases.git(project, "diff", "--cached", "--name-only") == ""
