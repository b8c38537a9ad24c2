"""Each revision is rendered as it was, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from migrations import migrate
from tests import rendering, tooling
from tests.review import __main__ as program
from tests.review import revisions, text
from tests.update import releases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.review.revisions import Revision

QUESTIONS = """\
_subdirectory: template
_templates_suffix: .jinja
_answers_file: .copier-answers.yml
_jinja_extensions:
  - copier_template_extensions.TemplateExtensionLoader
  - extensions/facts.py:Facts
name: {type: str}
kind: {type: str, choices: [plain], default: plain}
"""
EXTENSION = """\
from jinja2.ext import Extension

class Facts(Extension):
    def __init__(self, environment):
        super().__init__(environment)
        environment.globals["version"] = 1
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A template with two releases: the second one has a new extension, a new choice and a new question."""
    root = tmp_path / "repository"
    files = {
        "copier.yml": QUESTIONS,
        "extensions/facts.py": EXTENSION,
        "template/a.jinja": "{{ name }} {{ kind }} by {{ version }}\n",
        "template/{{ _copier_conf.answers_file }}.jinja": "{{ _copier_answers|to_nice_yaml }}",
    }
    put(root, files)
    releases.git(root, "init", "--quiet", "--initial-branch=main")
    releases.commit(root, "release: v1.0.0")
    put(
        root,
        {
            "copier.yml": QUESTIONS.replace("[plain]", "[plain, special]") + "more: {type: str, default: none}\n",
            "extensions/facts.py": EXTENSION.replace("= 1", "= 2"),
            "template/a.jinja": "{{ name }} {{ kind }} by {{ version }}\n{{ more }}\n",
        },
    )
    releases.commit(root, "release: v2.0.0")
    return root


def put(root: Path, files: Mapping[str, str]) -> None:
    """Write files."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")


def render(
    root: Path, folder: Path, revision: Revision, answers: Mapping[str, object]
) -> tuple[str, Mapping[str, object]]:
    """Return what one profile gets, and which of its answers the revision did not know."""
    source = revisions.template(revision, folder / "template", root)
    project = revisions.render_all({revision: source}, folder, {"one": answers})[revision]["one"]
    return (project.folder / "a").read_text(encoding="utf-8"), project.without


def test_a_revision_is_rendered_with_its_own_questions_and_extensions(repository: Path, tmp_path: Path) -> None:
    given = {"name": "Shop", "kind": "special", "more": "all"}
    old = render(repository, tmp_path / "old", revisions.resolve("v1.0.0", repository), given)
    new = render(repository, tmp_path / "new", revisions.resolve("HEAD", repository), given)
    # What it did not offer yet has its default.
    assert old == ("Shop plain by 1\n", {"kind": "special", "more": "all"})
    assert new == ("Shop special by 2\nall\n", {})


def test_an_answer_that_is_left_out_is_told(repository: Path, tmp_path: Path) -> None:
    old = revisions.resolve("v1.0.0", repository)
    source = revisions.template(old, tmp_path / "template", repository)
    profiles = {"one": {"name": "A"}, "two": {"name": "A", "more": "all"}}
    projects = revisions.render_all({old: source}, tmp_path, profiles)[old]
    assert list(text.left_out(old, projects)) == [
        "v1.0.0 knows no answer “more: all”: its default stands for it in two."
    ]


def test_a_question_that_was_renamed_since_is_asked_by_its_old_name(repository: Path, tmp_path: Path) -> None:
    old, new = next(pair for release in migrate.releases().values() for pair in release.answers.items())
    put(repository, {"copier.yml": f"{QUESTIONS}{old}: {{type: str}}\n", "template/a.jinja": f"{{{{ {old} }}}}\n"})
    releases.commit(repository, "Ask by the old name")
    assert render(repository, tmp_path / "old", revisions.resolve("HEAD", repository), {"name": "A", new: "Shop"}) == (
        "Shop\n",
        {},
    )


def test_the_working_tree_counts_as_it_is(repository: Path, tmp_path: Path) -> None:
    put(repository, {"template/a.jinja": "not committed\n", "template/new.jinja": "nor known to Git\n"})
    source = revisions.template(revisions.Revision(revisions.WORKING_TREE), tmp_path / "template", repository)
    assert (source / "template/a.jinja").read_text(encoding="utf-8") == "not committed\n"
    assert (source / "template/new.jinja").exists()


def test_a_release_is_found_by_its_version_and_called_by_it(repository: Path) -> None:
    # There are no tags here, as in many a clone.
    release = revisions.resolve("v1.0.0", repository)
    assert release.name == "v1.0.0"
    assert revisions.resolve("HEAD~1", repository) == release
    assert revisions.resolve(str(release.commit), repository) == release
    put(repository, {"README.md": "x\n"})
    releases.commit(repository, "Not a release")
    commit = releases.git(repository, "rev-parse", "HEAD")
    for given in (commit, commit[:8], "HEAD", "main~0"):
        assert revisions.resolve(given, repository) == revisions.Revision(commit[:12], commit)
    assert revisions.resolve("main", repository) == revisions.Revision("main", commit)


def test_what_is_compared_with_is_the_last_release_before(repository: Path) -> None:
    tree = revisions.Revision(revisions.WORKING_TREE)
    assert revisions.newest_release(tree, repository).name == "v2.0.0"
    assert revisions.newest_release(revisions.resolve("v2.0.0", repository), repository).name == "v1.0.0"
    with pytest.raises(revisions.ReviewError, match=r"no release before v1\.0\.0: say what to compare with"):
        revisions.newest_release(revisions.resolve("v1.0.0", repository), repository)


def test_an_unknown_revision_is_an_error_that_names_the_known_ones(repository: Path) -> None:
    with pytest.raises(revisions.ReviewError, match=r"unknown revision 'v3': .*\(v1\.0\.0, v2\.0\.0\)$"):
        revisions.resolve("v3", repository)


def test_a_revision_without_a_template_is_an_error(repository: Path, tmp_path: Path) -> None:
    releases.git(repository, "rm", "-r", "--quiet", "extensions", "copier.yml", "template")
    releases.commit(repository, "Not a template")
    with pytest.raises(
        revisions.ReviewError, match=r"has no copier\.yml, no extensions, no template: there is no template to render"
    ):
        revisions.template(revisions.resolve("main", repository), tmp_path / "template", repository)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"template/a.jinja": "{{ name"}, "unexpected end of template"),
        ({"extensions/facts.py": "import nothing_of_that_name\n"}, "nothing_of_that_name"),
        ({"copier.yml": QUESTIONS + "needed: {type: str}\n"}, "needed"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_an_error_with_the_reason(
    repository: Path, tmp_path: Path, broken: Mapping[str, str], reason: str
) -> None:
    put(repository, broken)
    releases.commit(repository, "Broken")
    with pytest.raises(revisions.ReviewError, match=rf"(?s)of main cannot render the profile one: .*{reason}"):
        render(repository, tmp_path / "work", revisions.resolve("main", repository), {"name": "A"})


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything temporary goes, to see whether anything stays."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def make_diff(folder: Path, *options: str) -> list[str | Path]:
    """Return the command of `make diff` with a page in a folder."""
    return [sys.executable, "-m", "tests.review", "--page", folder / "diff.html", *options]


@pytest.mark.slow
def test_all_profiles_are_compared_with_the_newest_release(scratch: Path, tmp_path: Path) -> None:
    command = make_diff(tmp_path, "--markdown", str(tmp_path / "diff.md"))
    told = tooling.run(command, cwd=rendering.ROOT)
    newest = list(releases.releases())[-1]
    first = told.stdout.splitlines()[0]
    assert re.match(rf"{newest} → working tree: (No difference|[\d,]+ files? \(.*\), .* lines, in ).*profiles\.", first)
    assert (tmp_path / "diff.md").read_text(encoding="utf-8").startswith("### What this changes in generated projects")
    assert f"<title>{newest} → working tree</title>" in (tmp_path / "diff.html").read_text(encoding="utf-8")
    assert list(scratch.iterdir()) == []


def test_a_difference_between_two_releases_is_what_their_commits_changed(scratch: Path, tmp_path: Path) -> None:
    told = tooling.run(
        make_diff(tmp_path, "--base", "v0.1.0", "--head", "v0.2.0", "--profile", "minimal"), cwd=rendering.ROOT
    )
    assert told.stdout.startswith("v0.1.0 → v0.2.0: ")
    assert "  added    infra/bin/deploy (executable)" in told.stdout
    assert "infra/terraform/" not in told.stdout
    # Two renderings differ in where they were made; nobody wants to see that.
    assert "_src_path" not in told.stdout
    assert list(scratch.iterdir()) == []


def test_no_difference_and_an_error_are_told_apart_by_the_exit_code(scratch: Path, tmp_path: Path) -> None:
    same = tooling.run(
        make_diff(tmp_path, "--base", "v0.1.0", "--head", "v0.1.0", "--profile", "minimal"), cwd=rendering.ROOT
    )
    assert same.stdout == "v0.1.0 → v0.1.0: No difference in 1 profile.\n"
    wrong = tooling.run(make_diff(tmp_path, "--base", "nonsense"), cwd=rendering.ROOT, check=False)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("diff: unknown revision 'nonsense'")
    assert "Traceback" not in wrong.stderr
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_it_finds_nothing_left(scratch: Path, tmp_path: Path, sent: signal.Signals) -> None:
    command = [str(part) for part in make_diff(tmp_path)]
    process = subprocess.Popen(
        command, cwd=rendering.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait(lambda: any(scratch.glob("slipway-diff-*/projects-0/*/infra")), process)
    # As a terminal does: every process gets it.
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.terminate()
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + sent
    assert printed == ""
    assert "Traceback" not in errors
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "diff.html").exists()


def wait(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something has happened while a process runs."""
    for _ in range(1200):
        if happened():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("it did not happen within a minute")


def test_a_reader_who_has_seen_enough_is_no_error(scratch: Path, tmp_path: Path) -> None:
    command = [str(part) for part in make_diff(tmp_path, "--base", "v0.1.0", "--profile", "minimal")]
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        command, cwd=rendering.ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=300
    )
    os.close(writing)
    assert (ended.returncode, "Traceback" in ended.stderr, "Broken pipe" in ended.stderr) == (0, False, False)
    assert list(scratch.iterdir()) == []


def test_make_passes_on_what_it_was_given() -> None:
    command = tooling.run(["make", "-n", "diff", "BASE=v0.1.0", "HEAD=main", "ARGS=--quiet"], cwd=rendering.ROOT).stdout
    assert "-m tests.review --base 'v0.1.0' --head 'main' --quiet" in command
    options = program.arguments(["--base", "", "--head", ""])
    assert (options.base, options.head, options.page) == ("", "", rendering.ROOT / ".cache" / "diff.html")
