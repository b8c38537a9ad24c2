"""A second copy with the same answers changes nothing, with Git and without; the answers are recorded as given."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import answers, profiles, rendering
from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_copier.plugin import CopierFixture


@pytest.mark.parametrize("name", ["default", "everything", "minimal", "nginx-managed", "name-with-markup"])
def test_a_second_copy_changes_nothing_in_a_folder_without_git(
    source: Path, tmp_path: Path, rendered: Callable[[str], Path], name: str
) -> None:
    project = shutil.copytree(rendered(name), tmp_path / "project")
    before = rendering.contents(project)
    rendering.render(source, project, profiles.combinations_by_name()[name])
    assert rendering.changes(before, rendering.contents(project)) == []


def test_a_second_copy_changes_nothing_in_a_repository(copier: CopierFixture, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    run(["git", "init", "--quiet"], cwd=repository)
    project = copier.copy(repository)
    project.run("git add --all && git commit --quiet --message 'Add the production side'")
    assert copier.copy(repository).run("git status --porcelain") == ""


def test_a_second_copy_from_the_recorded_answers_alone_changes_nothing(
    source: Path, tmp_path: Path, rendered: Callable[[str], Path]
) -> None:
    project = shutil.copytree(rendered("everything"), tmp_path / "project")
    before = rendering.contents(project)
    rendering.render(source, project, {})
    assert rendering.changes(before, rendering.contents(project)) == []


def test_a_second_copy_keeps_the_number_of_a_decision_that_the_project_wrote_meanwhile(
    source: Path, tmp_path: Path, rendered: Callable[[str], Path]
) -> None:
    project = shutil.copytree(rendered("default"), tmp_path / "project")
    (project / "docs/adr/0007-caching.md").write_text("# 7. Caching\n", encoding="utf-8")
    (project / "docs/adr/0002-proxy.md").write_text("# Ours now\n", encoding="utf-8")
    before = rendering.contents(project)
    rendering.render(source, project, profiles.REQUIRED)
    assert rendering.changes(before, rendering.contents(project)) == []


@pytest.mark.parametrize("name", ["default", "everything", "minimal", "managed-database"])
def test_the_answers_file_has_every_answer_with_its_type_and_the_source(
    rendered: Callable[[str], Path], name: str, source: Path
) -> None:
    project = rendered(name)
    found = answers.recorded(project)
    given = profiles.combinations_by_name()[name]
    assert {key: value for key, value in found.items() if key in given} == given
    assert found["_src_path"] == str(source) or found["_src_path"].endswith("/template0")
    asked = [question for question in profiles.questions() if profiles.is_asked(question, found)]
    assert [key for key in found if not key.startswith("_")] == sorted(asked, key=list(found).index)
    assert set(asked) == {key for key in found if not key.startswith("_")}


def test_no_answer_is_a_secret() -> None:
    secret = re.compile(r"password|secret|token|api_?key|private|credential", re.IGNORECASE)
    assert [name for name, details in profiles.questions().items() if secret.search(name) or "secret" in details] == []


def test_the_first_repository_commit_leaves_no_file_ignored(copier: CopierFixture, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    project = copier.copy(repository, frontends="web admin", worker=True)
    project.run("git init --quiet && git add --all")
    committed = project.run("git ls-files").splitlines()
    assert sorted(committed) == rendering.files(repository)
    assert project.run("git ls-files --stage infra/bin/check infra/custom/test").count("100755") == 2
