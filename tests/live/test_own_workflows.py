"""This repository's own workflows, run by act: a release is published, and a pull request is told what it changes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.lab.github import GitHub, Ran, bring_wheels
from tests.lab.shell import run
from tests.lab.vps import Repository
from tests.tooling import REPO
from tests.update import releases
from tools import changelog

pytestmark = pytest.mark.live

REQUIREMENTS = REPO / "requirements/dev.txt"
NOTES = "### By hand\n\n- Nothing.\n\n### Changed\n\n- `$(touch /tmp/ran)` is **text**.\n"


@pytest.fixture(scope="module")
def shared(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """What the runner sees, with what pip would fetch."""
    folder = tmp_path_factory.mktemp("own") / "shared"
    bring_wheels(REQUIREMENTS, folder / "wheels")
    return folder


@pytest.fixture
def github(shared: Path, tmp_path: Path) -> GitHub:
    """This repository as it lies here, on GitHub, with the tags of its releases."""
    path = tmp_path / "slipway"
    run("git", "clone", "--quiet", "--no-tags", REPO, path)
    repository = Repository(path, tmp_path / "artifacts", {})
    for name in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=REPO).stdout.split("\0"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPO / name).is_file():
            shutil.copy2(REPO / name, path / name)
        elif name:
            (path / name).unlink(missing_ok=True)
    repository.git("checkout", "--quiet", "-B", "main")
    repository.commit("The working tree")
    for version, commit in releases.releases().items():
        repository.git("tag", version, commit)
    for name in ("ci", "releases", "comments"):
        shutil.rmtree(shared / name, ignore_errors=True)
        (shared / name).mkdir()
    made = GitHub(repository, shared)
    made.environment = {
        "GITHUB_REPOSITORY": "harbour/slipway",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/shared/wheels",
    }
    return made


def release(github: GitHub) -> str:
    """Commit the next release; returns its version."""
    file = github.repository.path / "CHANGELOG.md"
    text = file.read_text(encoding="utf-8")
    newest = changelog.number(list(releases.releases())[-1])
    version = f"{newest[0]}.{newest[1] + 1}.0"
    waiting = next(each.text for each in changelog.sections(text) if each.version == changelog.UNRELEASED)
    heading = f"## [{changelog.UNRELEASED}]\n"
    assert heading in text
    if waiting.strip():
        text = text.replace(waiting.strip("\n"), "", 1)
    text = text.replace(heading, f"{heading}\n## [{version}] - 2026-12-31\n\n{NOTES}", 1)
    file.write_text(text, encoding="utf-8")
    github.repository.commit(f"release: v{version}")
    return f"v{version}"


def publish(github: GitHub, verdict: str = "success") -> Ran:
    """Push what is committed; CI comes to this verdict on it."""
    commit = github.repository.git("rev-parse", "HEAD")
    run_of_ci = github.shared / "ci" / commit / str(int(commit[:8], 16))
    run_of_ci.parent.mkdir(exist_ok=True)
    run_of_ci.write_text(verdict, encoding="utf-8")
    message = github.repository.git("log", "-1", "--format=%B")
    return github.act("push", "release", facts={"head_commit": {"message": message}})


def test_a_release_is_published_once_with_its_notes_when_ci_has_passed(github: GitHub) -> None:
    ran = publish(github)
    assert ran.jobs() == {}, "no release, and something ran"

    version = release(github)
    ran = publish(github, "failure")
    assert ran.jobs() == {"Check": "succeeded", "Wait for CI": "failed"}, ran.log
    assert not list((github.shared / "releases").iterdir())

    for words in ("", f"{version} is published already.")[: 2 if os.environ.get("FULL") else 1]:
        ran = publish(github)
        assert ran.status == 0, ran.log
        assert ran.jobs() == {"Check": "succeeded", "Wait for CI": "succeeded", "Publish": "succeeded"}
        assert words in ran.log
    [made] = (github.shared / "releases").iterdir()
    told = {name: (made / name).read_text(encoding="utf-8") for name in ("target", "title", "notes")}
    assert made.name == version
    assert told == {"target": github.repository.git("rev-parse", "HEAD"), "title": version, "notes": NOTES}


def pull_request_of(owner: str) -> dict[str, object]:
    """What GitHub tells of a pull request whose branch is in somebody's repository."""
    return {"pull_request": {"number": 7, "head": {"repo": {"full_name": f"{owner}/slipway"}}}}


@pytest.mark.full  # GitHub itself runs it at each pull request
@pytest.mark.parametrize("owner", ["harbour", "stranger"])
def test_a_pull_request_is_told_what_it_changes_in_one_comment(github: GitHub, owner: str) -> None:
    repository, file = github.repository, github.repository.path / "template/infra/README.md.jinja"
    repository.git("checkout", "--quiet", "-b", "change")
    file.write_text(file.read_text(encoding="utf-8") + "\nA sentence more.\n", encoding="utf-8")
    repository.commit("Say more")
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message", "Merge it as GitHub does", "change")
    comments = github.shared / "comments/7.json"
    before = [
        {"id": 1, "user": {"login": "somebody"}, "body": "<!-- generated-difference -->\nMine."},
        {"id": 2, "user": {"login": "github-actions[bot]"}, "body": "<!-- generated-difference -->\nEarlier."},
    ]
    comments.write_text(json.dumps(before), encoding="utf-8")

    ran = github.act("pull_request", "ci", job="comment", facts=pull_request_of(owner))
    assert ran.status == 0, ran.log
    page = github.shared / "artifacts" / str(github.runs) / "generated-difference/diff.html"
    assert "A sentence more." in page.read_text(encoding="utf-8")
    if owner == "stranger":
        assert ran.jobs() == {"What it changes in generated projects": "succeeded"}
        assert json.loads(comments.read_text(encoding="utf-8")) == before
        return
    mine, comment = json.loads(comments.read_text(encoding="utf-8"))
    assert mine == before[0]
    assert "infra/README.md" in comment["body"]
    assert f"/harbour/slipway/actions/runs/{github.runs})" in comment["body"]
    assert "Earlier." not in comment["body"]
