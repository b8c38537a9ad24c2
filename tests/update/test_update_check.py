"""`make update-check` tells what an update will do, and does nothing. Copier runs here as it is, without short cuts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import rendering
from tests.tooling import run
from tests.update import releases
from tests.update.edits import COMPOSE
from tools import changelog

PROGRAM = rendering.ROOT / "tools" / "update_check.py"


def told(project: Path, *options: str) -> str:
    """Run the program and return what it printed."""
    return run([sys.executable, PROGRAM, project, *options]).stdout


@pytest.fixture
def project(start: Callable[[str, str], Path]) -> Path:
    """A project of v0.1.0 in which something conflicts, something was moved, and something is merged."""
    project = start("v0.1.0", "default")
    with (project / ".env.example").open("a", encoding="utf-8") as file:
        file.write("# Key of the map service.\nMAP_KEY=\n")
    compose = project / COMPOSE
    compose.write_text(compose.read_text(encoding="utf-8").replace("max-size: 10m", "max-size: 50m"), encoding="utf-8")
    releases.commit(project, "What this project changed")
    return project


def test_it_tells_what_an_update_then_does_and_changes_nothing(project: Path) -> None:
    before = rendering.contents(project), releases.git(project, "status", "--porcelain", "--ignored")
    report = told(project, "--to", releases.NEXT)
    assert (rendering.contents(project), releases.git(project, "status", "--porcelain", "--ignored")) == before
    releases.update(project, releases.BY_HAND)

    unmerged = releases.git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    assert unmerged == [".env.example"]
    conflicts = report.partition("in conflict with")[2].partition("\n\n")[0]
    assert conflicts.splitlines()[1:] == ["  .env.example"]
    releases.git(project, "add", "--all")
    changed = releases.git(project, "diff", "--cached", "--no-renames", "--name-only", "HEAD").splitlines()
    listed = [line.split()[1] for line in report.partition("files change:")[2].partition("\n\n")[0].splitlines()[1:]]
    assert sorted(listed) == sorted(set(changed) - {".copier-answers.yml"})
    assert f"v0.1.0 → {releases.NEXT}" in report
    assert "  backup_volumes: ''" in report
    assert "the answer dotnet_project is now called dotnet_solution" in report
    assert "  dotnet_solution:" not in report


def test_it_names_what_is_to_be_done_by_hand_in_each_release_on_the_way(project: Path) -> None:
    text = (rendering.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    report = told(project, "--to", "v0.3.0")
    head = {section.version: section.part("By hand").splitlines()[0] for section in changelog.sections(text)[1:]}
    assert head["0.2.0"] in report
    assert head["0.3.0"] in report
    assert head["0.1.0"] not in report
    assert head["0.4.0"] not in report


def test_it_tells_of_a_branch_and_that_a_template_has_no_changelog(
    project: Path, history: Path, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    releases.git(tmp_path, "clone", "--quiet", str(history), str(template))
    releases.git(template, "checkout", "--quiet", "-b", "ours", "v0.3.0")
    releases.git(template, "commit", "--quiet", "--allow-empty", "--message", "Ours")
    releases.git(template, "checkout", "--quiet", "main")
    answers = project / ".copier-answers.yml"
    text = answers.read_text(encoding="utf-8")
    answers.write_text(text.replace(str(history), str(template)), encoding="utf-8")
    releases.commit(project, "Another template")
    assert "\n  0.3.0\n" in told(project, "--to", "ours")

    releases.git(template, "checkout", "--quiet", "ours")
    releases.git(template, "rm", "--quiet", "CHANGELOG.md")
    releases.git(template, "commit", "--quiet", "--message", "Without a changelog")
    report = told(project, "--to", "ours")
    assert "The template has no CHANGELOG.md" in report
    assert "Nothing to do by hand" not in report
    assert "files change:" in report


def test_it_says_so_when_there_is_nothing_to_update(project: Path) -> None:
    assert "is at v0.1.0 already" in told(project, "--to", "v0.1.0")


def test_it_says_that_uncommitted_changes_are_left_out(project: Path) -> None:
    (project / "notes.md").write_text("# Notes\n", encoding="utf-8")
    assert "Changes that are not committed are left out" in told(project, "--to", "v0.2.0")


def make_no_project(project: Path) -> None:
    (project / ".copier-answers.yml").unlink()


def forget_release(project: Path) -> None:
    (project / ".copier-answers.yml").write_text("_src_path: /nowhere\n", encoding="utf-8")


def lose_template(project: Path) -> None:
    (project / ".copier-answers.yml").write_text("_src_path: /nowhere\n_commit: v0.1.0\n", encoding="utf-8")


def leave_git(project: Path) -> None:
    (project / ".git").rename(project.parent / "was-git")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (make_no_project, "it was not generated"),
        (forget_release, "which release it comes from"),
        (lose_template, "is not a Git repository that can be reached"),
        (leave_git, "is not a Git repository: git init"),
    ],
)
def test_it_says_why_it_cannot_tell(project: Path, spoil: Callable[[Path], None], sentence: str) -> None:
    spoil(project)
    told = run([sys.executable, PROGRAM, project], check=False)
    assert told.returncode == 1
    assert told.stderr.startswith("update-check: ")
    assert sentence in told.stderr
    assert "Traceback" not in told.stderr


def test_it_says_why_copier_refuses(project: Path) -> None:
    told = run([sys.executable, PROGRAM, project, "--to", "v7.7.7"], check=False)
    assert told.returncode == 1
    assert "copier update fails: " in told.stderr
    assert "v7.7.7" in told.stderr


def test_its_help_names_what_it_runs() -> None:
    help_text = run([sys.executable, PROGRAM, "--help"]).stdout
    assert "--to REF" in help_text
    assert "runs the template's code on this machine" in help_text
