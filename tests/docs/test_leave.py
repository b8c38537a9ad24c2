"""docs/leave.md and the configurations for Renovate: followed, and validated."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pyjson5
import pytest

from tests import answers, profiles, rendering
from tests.build.conftest import GIT, make_project
from tests.build.test_conformance import findings
from tests.docs import reading
from tests.tooling import actionlint, require, run
from tests.update import releases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["make_project"]

DOCS = rendering.ROOT / "docs"
IDENTITY = {
    **{f"GIT_{who}_NAME": "Test" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "test@example.com" for who in ("AUTHOR", "COMMITTER")},
}


@cache
def renovate(page: str) -> str:
    """The configuration that a page proposes."""
    [text] = [block.code for block in reading.blocks(DOCS / page) if block.language == "json5"]
    return text


def leave(project: Path) -> None:
    """Do what the page says."""
    [steps] = [block.code for block in reading.blocks(DOCS / "leave.md") if "git rm" in block.code]
    run(["bash", "-euo", "pipefail", "-c", steps], cwd=project, env=IDENTITY)


@pytest.mark.parametrize("profile", ["default", "everything", "runner", "minimal"])
def test_a_project_that_left_still_validates(make_project: Callable[[str], Path], profile: str) -> None:
    require("docker-compose")
    project = make_project(profile)
    leave(project)
    assert run(["git", "status", "--porcelain"], cwd=project).stdout == ""
    checks = ["compose", "dockerfiles", "secrets", "env-example", "standards"]
    checks += ["proxy"] if answers_proxy(project) == "caddy" else []
    told = run([project / "infra/bin/check", *checks], cwd=project, check=False)
    assert told.returncode == 0, told.stdout
    assert findings(project) == []


def test_no_script_or_workflow_of_a_project_that_left_misses_what_is_gone(make_project: Callable[[str], Path]) -> None:
    project = make_project("everything")
    leave(project)
    told = run([project / "infra/bin/check", "shell"], cwd=project, check=False)
    assert told.returncode == 0, told.stdout
    actionlint(sorted((project / ".github/workflows").glob("*.yml")), "-shellcheck", require("shellcheck"))


def answers_proxy(project: Path) -> str:
    """The proxy, as the scripts know it; the answers are gone."""
    found = re.search("^PROXY=(.*)$", (project / "infra/deploy.conf").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def test_nothing_that_is_left_asks_for_the_template(make_project: Callable[[str], Path]) -> None:
    project = make_project("everything")
    names = {"update-standard", "copier.txt", ".copier-answers.yml", "COPIER"}
    leave(project)
    # The list of files whose change starts the checks may name one that is gone.
    allowed = {".github/workflows/infra.yml", "infra/README.md"}
    for file in rendering.files(project):
        text = (project / file).read_text(encoding="utf-8")
        if file in allowed or file.startswith("docs/runbooks/first-hour"):
            continue
        code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
        assert not [name for name in names if name in code], file
    # The map names what is there.
    readme = (project / "infra/README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (?:\[)?`([^`]+)`", readme.partition("## What is what")[2].partition("## On")[0], re.M)
    assert [name for name in named if not (project / "infra" / name).exists()] == []


def test_who_left_can_come_back(tmp_path: Path) -> None:
    template = releases.clone(tmp_path / "slipway")
    project = releases.start(template, releases.NEXT, tmp_path / "project", profiles.REQUIRED)
    before = rendering.contents(project)
    leave(project)
    run([*GIT, "revert", "--no-edit", "HEAD"], cwd=project)
    assert rendering.changes(before, rendering.contents(project)) == []
    releases.update(project)
    assert rendering.changes(before, rendering.contents(project)) == []


# ----- Renovate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["update-pull-request.md", "leave.md"])
def test_renovate_accepts_the_configuration(page: str, tmp_path: Path) -> None:
    file = tmp_path / "renovate.json5"
    file.write_text(renovate(page), encoding="utf-8")
    validate: list[str | Path] = [require("check-jsonschema"), "--builtin-schema", "vendor.renovate", file]
    run(validate)
    file.write_text(renovate(page).replace("extends:", "extends: 7, other:"), encoding="utf-8")
    assert run(validate, check=False).returncode == 1


def test_renovate_leaves_alone_what_the_template_updates(rendered: Callable[[str], Path]) -> None:
    ignored = set(pyjson5.decode(renovate("update-pull-request.md"))["ignorePaths"])
    known = set()
    for profile in profiles.PROFILES:
        project = rendered(profile)
        known |= {f".github/workflows/{path.name}" for path in (project / ".github/workflows").iterdir()}
        assert answers.recorded(project)["_src_path"]
    assert ignored == {"infra/**", *known}


def test_renovate_finds_every_image_of_a_project_that_left(rendered: Callable[[str], Path]) -> None:
    configuration: dict[str, Any] = pyjson5.decode(renovate("leave.md"))
    [manager] = configuration["customManagers"]
    [pattern] = manager["matchStrings"]
    # JavaScript names groups without a P; Renovate reads line by line.
    expression = re.compile(pattern.replace("(?<", "(?P<"), re.MULTILINE)
    for profile in ("default", "everything", "managed-bundle"):
        text = (rendered(profile) / "infra/deploy.conf").read_text(encoding="utf-8")
        found = [f"{match['depName']}:{match['currentValue']}" for match in expression.finditer(text)]
        assert found == re.findall(r"^\w+_IMAGE=([^@\n]+)", text, re.MULTILINE)
        assert len(found) > 5


def test_a_workflow_that_was_given_up_stays_away(tmp_path: Path) -> None:
    template = releases.clone(tmp_path / "slipway")
    project = releases.start(template, releases.NEXT, tmp_path / "project", profiles.REQUIRED)
    (project / ".github/workflows/update-standard.yml").unlink()
    releases.commit(project, "Renovate does it")
    releases.git(template, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
    releases.git(template, "tag", "v100.0.0")
    run(
        [require("copier"), "update", "--trust", "--defaults", "--quiet", "--vcs-ref", "v100.0.0"],
        cwd=project,
        env=IDENTITY,
    )
    assert "_commit: v100.0.0" in (project / ".copier-answers.yml").read_text(encoding="utf-8")
    assert not (project / ".github/workflows/update-standard.yml").exists()
