"""The workflow that proposes the template's next release, run by act: from the first job to the comments on lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.lab.github import GitHub, bring_wheels
from tests.lab.pulls import Pulls, pulls
from tests.lab.vps import Repository
from tests.tooling import REPO
from tests.update import releases
from tests.update.test_pull_request import OURS, RUNBOOK, THEIRS_BEFORE

pytestmark = pytest.mark.live

TOKEN = "token-that-may-push"
BRANCH = "update-standard"
# What a project that has the workflow has besides; v0.3.0 had none of it.
WORKFLOW_FILES = (".github/workflows/update-standard.yml", "infra/bin/update-standard", "infra/copier.txt")


@dataclass
class World:
    """A project on GitHub, whose template and origin lie where the runner sees them."""

    github: GitHub
    pulls: Pulls

    def push(self) -> None:
        """Bring what is committed to the origin's main."""
        self.github.repository.git("push", "--quiet", "--force", str(self.pulls.origin), "HEAD:refs/heads/main")


@pytest.fixture(scope="module")
def world(engine: None, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:  # noqa: ARG001
    """A project that was made from v0.3.0 and has the workflow."""
    folder = tmp_path_factory.mktemp("update")
    template = releases.clone(folder / "shared/slipway")
    project = releases.start(template, "v0.3.0", folder / "shop", profiles.REQUIRED)
    fresh = rendering.render(source, folder / "fresh", profiles.REQUIRED)
    for file in WORKFLOW_FILES:
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        (project / file).write_bytes((fresh / file).read_bytes())
        (project / file).chmod((fresh / file).stat().st_mode)
    answers = project / ".copier-answers.yml"
    text = answers.read_text(encoding="utf-8")
    answers.write_text(re.sub("_src_path: .*", "_src_path: /shared/slipway", text), encoding="utf-8")
    repository = Repository(project, folder / "artifacts", {})
    repository.commit("Let each release be proposed")
    origin = folder / "shared/origin.git"
    repository.git("init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    bring_wheels(REPO / "requirements/copier.txt", folder / "shared/wheels")
    with pulls(origin, TOKEN, "harbour/shop") as served:
        github = GitHub(repository, folder / "shared")
        github.environment = {
            "GITHUB_API_URL": served.address,
            "GITHUB_REPOSITORY": "harbour/shop",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/shared/wheels",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "remote.origin.url",
            "GIT_CONFIG_VALUE_0": "/shared/origin.git",
        }
        made = World(github, served)
        made.push()
        yield made


def test_without_a_token_the_update_is_shown_and_nothing_is_pushed(world: World) -> None:
    world.github.secrets = {}
    ran = world.github.act("schedule", "update-standard")
    assert ran.status == 0, ran.log
    assert ran.jobs() == {"Prepare": "succeeded", "Propose": "succeeded"}
    assert "no secret UPDATE_TOKEN" in ran.log
    assert world.pulls.branch(BRANCH) == ""
    assert world.pulls.asked == []


def test_a_release_with_a_conflict_becomes_a_draft_with_comments(world: World) -> None:
    world.github.secrets = {"UPDATE_TOKEN": TOKEN}
    runbook = world.github.repository.path / RUNBOOK
    runbook.write_text(runbook.read_text(encoding="utf-8").replace(THEIRS_BEFORE, OURS), encoding="utf-8")
    world.github.repository.commit("Our own vault")
    world.push()
    ran = world.github.act("workflow_dispatch", "update-standard", inputs={"version": "v0.4.0"})
    assert ran.status == 0, ran.log
    assert TOKEN not in ran.log
    [pull] = world.pulls.open
    assert (pull["title"], pull["draft"]) == ("Update the standard from v0.3.0 to v0.4.0", True)
    assert "## To do by hand" in pull["body"]
    assert len(world.pulls.comments(pull["number"])) == 2
    changed = world.pulls.git("diff", "--name-only", f"main...{BRANCH}").split()
    assert RUNBOOK in changed
    assert any(name.startswith(".github/workflows/") for name in changed)


def test_a_project_that_is_up_to_date_runs_one_job(world: World) -> None:
    repository = world.github.repository
    repository.git("fetch", "--quiet", str(world.pulls.origin), BRANCH)
    repository.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    world.push()
    ran = world.github.act("workflow_dispatch", "update-standard", inputs={"version": "v0.4.0"})
    assert ran.status == 0, ran.log
    assert ran.jobs() == {"Prepare": "succeeded"}
