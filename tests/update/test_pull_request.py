"""infra/bin/update-standard: the pull request that brings a project to the template's next release."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.lab.pulls import Pulls, pulls
from tests.tooling import require, run, search_path
from tests.update import releases

TOKEN = "token-that-may-push"
BRANCH = "update-standard"
SCRIPT = "infra/bin/update-standard"
# A line that v0.4.0 changed, as a project might have changed it before.
RUNBOOK = "docs/runbooks/run-database-migration.md"
THEIRS_BEFORE = "taken back, copy it off the server, or [take your own](restore-database-backup.md#take-a-dump)."
OURS = "taken back, put a copy into our vault, or [take your own](restore-database-backup.md#take-a-dump)."


@dataclass
class Shop:
    """A project on GitHub: a clone, its origin, and its pull requests."""

    path: Path
    pulls: Pulls
    template: Path
    shared: Callable[[str, Callable[[Path], object]], Path]
    tools: Path | None = None

    def command(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script as the workflow does."""
        for tool in ("copier", "curl", "jq"):
            require(tool)
        known = {
            "UPDATE_TOKEN": TOKEN,
            "GITHUB_REPOSITORY": self.pulls.repository,
            "GITHUB_API_URL": self.pulls.address,
            **({"PATH": f"{self.tools}{os.pathsep}{search_path()}"} if self.tools else {}),
        }
        return run([self.path / SCRIPT, *words], cwd=self.path.parent, env={**known, **env}, check=False)

    def prepared(self, *options: str, afresh: bool = False) -> Path:
        """Prepare; returns the folder, with what was said in the file `said` beside it.

        What is prepared from the same commit is the same, so it is done once for all tests; not with `afresh`.
        """

        def prepare(folder: Path) -> None:
            told = self.command("prepare", folder / "prepared", *options)
            assert told.returncode == 0, told.stderr
            (folder / "said").write_text(told.stdout + told.stderr, encoding="utf-8")

        if afresh:
            place = self.path.parent / "afresh"
            shutil.rmtree(place, ignore_errors=True)
            prepare(place)
        else:
            place = self.shared("-".join(["prepared", releases.git(self.path, "rev-parse", "HEAD"), *options]), prepare)
        return place / "prepared"

    def update(self, *options: str, afresh: bool = False) -> str:
        """Prepare and propose; returns what was said."""
        prepared = self.prepared(*options, afresh=afresh)
        proposed = self.command("propose", prepared)
        assert proposed.returncode == 0, proposed.stderr
        said = prepared.with_name("said").read_text(encoding="utf-8") + proposed.stdout + proposed.stderr
        assert TOKEN not in said
        return said

    def change(self, file: str, old: str, new: str) -> None:
        """Edit a file, commit, and push to main."""
        path = self.path / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        releases.commit(self.path, f"Change {file}")
        releases.git(self.path, "push", "--quiet", "origin", "main")

    def proposed(self, file: str) -> str:
        """A file as it stands on the branch."""
        return self.pulls.git("show", f"{BRANCH}:{file}")


@pytest.fixture(scope="module", autouse=True)
def _moment() -> Iterator[None]:
    """Let the same change be the same commit in every test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
            patch.setenv(name, "2026-01-05T08:00:00Z")
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template with its releases as tags."""
    return releases.clone(tmp_path_factory.mktemp("template") / "slipway")


@pytest.fixture(scope="module")
def started(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was made from v0.3.0, has edits of its own, and took this program since."""
    project = releases.start(template, "v0.3.0", tmp_path_factory.mktemp("started") / "shop", profiles.REQUIRED)
    compose = project / "infra/docker-compose.prod.yml"
    compose.write_text(compose.read_text(encoding="utf-8").replace("max-size: 10m", "max-size: 50m"), encoding="utf-8")
    shutil.copy2(rendering.ROOT / "template" / SCRIPT, project / SCRIPT)
    releases.commit(project, "What this project changed")
    return project


@pytest.fixture
def make_shop(
    started: Path, template: Path, shared: Callable[[str, Callable[[Path], object]], Path], tmp_path: Path
) -> Iterator[Callable[[], Shop]]:
    """Projects of one's own with an origin, whose checks take no time: what they say is tried elsewhere."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("shellcheck", "hadolint", "gitleaks"):
        (tools / name).write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    origin, project = tmp_path / "origin.git", tmp_path / "shop"
    releases.git(tmp_path, "clone", "--quiet", "--bare", str(started), str(origin))
    releases.git(tmp_path, "clone", "--quiet", str(origin), str(project))
    with pulls(origin, TOKEN, "harbour/shop") as served:
        yield lambda: Shop(project, served, template, shared, tools)


@pytest.fixture
def shop(make_shop: Callable[[], Shop]) -> Shop:
    """One of them."""
    return make_shop()


def test_an_update_becomes_a_pull_request_that_says_what_a_reviewer_asks(shop: Shop) -> None:
    require("docker-compose")
    shop.tools = None
    before = rendering.contents(shop.path)
    branches = releases.git(shop.path, "branch", "--list", "--verbose")

    shop.update("--to", "v0.4.0", afresh=True)

    [pull] = shop.pulls.open
    assert (pull["title"], pull["draft"]) == ("Update the standard from v0.3.0 to v0.4.0", False)
    body = pull["body"]
    by_hand = body.partition("## To do by hand")[2].partition("\n## ")[0]
    assert "- [ ] On both servers install `infra/bin/entry`" in by_hand
    assert "**0.4.0**" in by_hand
    assert "0.3.0" not in by_hand
    changed = body.partition("## What the template has changed")[2]
    assert "### 0.4.0" in changed
    assert "- Runbook `replace-lost-server`" in changed
    assert "### 0.3.0" not in changed
    assert "By hand" not in changed
    checks = body.partition("## Checks")[2].partition("\n## ")[0]
    assert "`infra/bin/check` passes." in checks
    assert re.search(r"^secrets\n  passed in", checks, re.MULTILINE)
    assert "## To decide" not in body
    # v0.4.0 asks which volumes are backed up.
    asked = body.partition("## New questions")[2].partition("\n## ")[0]
    assert re.findall(r"^- `(\w+):", asked, re.MULTILINE) == ["backup_volumes"]
    assert shop.pulls.comments(1) == []
    # The branch is the update and nothing else, and the project's own edit is in it.
    assert shop.pulls.git("rev-list", "--count", f"main..{BRANCH}").strip() == "1"
    assert "max-size: 50m" in shop.proposed("infra/docker-compose.prod.yml")
    assert "_commit: v0.4.0" in shop.proposed(".copier-answers.yml")
    assert "`bin/restore-drill`" in shop.proposed("infra/README.md")
    # Where it ran nothing has changed.
    assert rendering.changes(before, rendering.contents(shop.path)) == []
    assert releases.git(shop.path, "branch", "--list", "--verbose") == branches
    assert releases.git(shop.path, "worktree", "list").count("\n") == 0


def test_a_second_run_changes_nothing_and_a_later_release_takes_the_first_ones_place(shop: Shop) -> None:
    shop.update("--to", "v0.4.0")
    first = shop.pulls.branch(BRANCH)
    assert "holds this update already" in shop.update("--to", "v0.4.0", afresh=True)
    assert shop.pulls.branch(BRANCH) == first
    shop.change("infra/custom/smoke.conf", "api /health 200", "api /health 200 Healthy")
    shop.update()
    [pull] = shop.pulls.requests
    assert pull["title"] == f"Update the standard from v0.3.0 to {releases.NEXT}"
    asked = pull["body"].partition("## New questions")[2].partition("\n## ")[0]
    assert "`backup_volumes:" in asked
    assert "dotnet_solution" not in asked  # renamed, and its value is the old one
    assert shop.pulls.branch(BRANCH) != first
    assert shop.pulls.git("merge-base", "main", BRANCH).strip() == shop.pulls.branch("main")
    assert "200 Healthy" in shop.proposed("infra/custom/smoke.conf")


def applied(text: str, comment: dict[str, object]) -> str:
    """What GitHub makes of a file when somebody commits the suggestion."""
    fence = re.search(r"^(`{3,})suggestion\n(.*?)^\1$", str(comment["body"]), re.MULTILINE | re.DOTALL)
    assert fence, comment
    lines = text.splitlines(keepends=True)
    first, last = int(str(comment.get("start_line", comment["line"]))), int(str(comment["line"]))
    return "".join([*lines[: first - 1], fence[2], *lines[last:]])


def test_a_conflict_is_a_draft_with_both_sides_one_click_away(shop: Shop, tmp_path: Path) -> None:
    shop.change(RUNBOOK, THEIRS_BEFORE, OURS)
    untouched = shop.pulls.git("show", f"main:{RUNBOOK}")
    said = shop.update("--to", "v0.4.0")
    assert "1 files in conflict" in said
    [pull] = shop.pulls.open
    assert pull["draft"] is True
    proposed = shop.proposed(RUNBOOK)
    [first] = [number for number, line in enumerate(proposed.splitlines(), 1) if line == "<<<<<<< before updating"]
    assert re.search(rf"- \[ \] `{re.escape(RUNBOOK)}`, lines {first} to \d+", pull["body"])
    # The checks read files without markers.
    assert "`infra/bin/check` passes.\nIt was run with this project's side of each conflict." in pull["body"]
    # Either suggestion leaves a file without markers, with that side and with whatever else the template changed.
    keep, take = shop.pulls.comments(1)
    assert applied(proposed, keep) == untouched
    fresh = releases.start(shop.template, "v0.4.0", tmp_path / "fresh", profiles.REQUIRED)
    assert applied(proposed, take) == (fresh / RUNBOOK).read_text(encoding="utf-8")
    # Nobody merges it by mistake: the pull request's check names the file.
    checkout = tmp_path / "review"
    releases.git(tmp_path, "clone", "--quiet", "--branch", BRANCH, str(shop.pulls.origin), str(checkout))
    told = run([checkout / "infra/bin/check", "standards"], check=False)
    assert told.returncode == 1
    assert f"{RUNBOOK} has conflict markers" in told.stdout
    # Comments come once for each commit.
    shop.update("--to", "v0.4.0", afresh=True)
    assert len(shop.pulls.comments(1)) == 2


def test_a_long_conflict_is_told_on_lines_that_github_accepts(shop: Shop) -> None:
    shop.change(RUNBOOK, THEIRS_BEFORE, "\n".join([OURS, *(f"Our step {number}." for number in range(12))]))
    shop.update("--to", "v0.4.0")
    [comment] = shop.pulls.comments(1)
    lines = shop.proposed(RUNBOOK).splitlines()
    assert lines[comment["start_line"] - 1] == "======="
    assert lines[comment["line"] - 1] == ">>>>>>> after updating"
    first, last = map(int, re.findall(r"Lines (\d+) to (\d+) are this project's", comment["body"])[0])
    assert lines[first - 1] == OURS
    assert lines[last - 1] == "Our step 11."


def test_without_drafts_a_conflict_is_proposed_all_the_same(shop: Shop) -> None:
    shop.pulls.drafts = False
    shop.change(RUNBOOK, THEIRS_BEFORE, OURS)
    shop.update("--to", "v0.4.0")
    [pull] = shop.pulls.open
    assert pull["draft"] is False
    assert "## To decide" in pull["body"]
    assert len(shop.pulls.comments(1)) == 2


@contextmanager
def a_release(template: Path, version: str, change: Callable[[Path], None]) -> Iterator[None]:
    """Let the template have a further release, with this change, for the length of a block."""
    change(template)
    releases.commit(template, f"release: {version}")
    releases.git(template, "tag", version)
    try:
        yield
    finally:
        releases.git(template, "tag", "--delete", version)
        releases.git(template, "reset", "--quiet", "--hard", releases.NEXT)


def test_a_file_that_the_template_gave_up_is_named(shop: Shop) -> None:
    with a_release(shop.template, "v100.0.0", lambda path: (path / "template/infra/bin/scan-image").unlink()):
        shop.update("--to", "v100.0.0")
    [pull] = shop.pulls.open
    assert "- `infra/bin/scan-image`" in pull["body"].partition("## Files that go")[2].partition("\n## ")[0]


def test_what_a_reviewer_has_added_is_never_written_over(shop: Shop, tmp_path: Path) -> None:
    shop.update("--to", "v0.4.0")
    review = tmp_path / "review"
    releases.git(tmp_path, "clone", "--quiet", "--branch", BRANCH, str(shop.pulls.origin), str(review))
    (review / "notes.txt").write_text("decided\n", encoding="utf-8")
    releases.commit(review, "Decide")
    releases.git(review, "push", "--quiet")
    theirs = shop.pulls.branch(BRANCH)
    assert "somebody works on https://github.com/harbour/shop/pull/1" in shop.update()
    assert shop.pulls.branch(BRANCH) == theirs
    assert shop.pulls.requests[0]["title"].endswith("v0.4.0")


def test_a_release_that_was_declined_is_not_proposed_again_and_the_next_one_is(shop: Shop) -> None:
    shop.update("--to", "v0.4.0")
    shop.pulls.close(1)
    assert "is not opened again" in shop.update("--to", "v0.4.0")
    assert shop.pulls.open == []
    shop.update()
    assert [pull["number"] for pull in shop.pulls.open] == [2]


def test_a_run_that_died_after_its_push_is_finished_by_the_next(shop: Shop) -> None:
    shop.change(RUNBOOK, THEIRS_BEFORE, OURS)
    shop.update("--to", "v0.4.0")
    shop.pulls.requests.clear()
    shop.pulls.reviews.clear()
    shop.update("--to", "v0.4.0")
    assert len(shop.pulls.open) == 1
    assert len(shop.pulls.comments(1)) == 2


def test_a_project_that_is_up_to_date_gets_no_pull_request(shop: Shop) -> None:
    shop.update()
    releases.git(shop.path, "pull", "--quiet", "origin", BRANCH)
    releases.git(shop.path, "push", "--quiet", "origin", "main")
    shop.pulls.requests.clear()
    said = shop.update()
    assert f"{releases.NEXT} is the newest release" in said
    assert "nothing to propose" in said
    assert shop.pulls.requests == []


def test_a_dry_run_shows_it_and_asks_nobody(shop: Shop) -> None:
    shop.change(RUNBOOK, THEIRS_BEFORE, OURS)
    told = shop.command("--dry-run", "--to", "v0.4.0", UPDATE_TOKEN="")
    assert told.returncode == 0, told.stderr
    assert "# Update the standard from v0.3.0 to v0.4.0\n" in told.stdout
    assert f"--- comment on {RUNBOOK}, line" in told.stdout
    assert OURS in told.stdout
    assert shop.pulls.asked == []
    assert shop.pulls.branch(BRANCH) == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (r"_src_path: .*", "_src_path: ../slipway", "recorded as '../slipway', which depends on the folder"),
        (r"_src_path: .*", "_src_path: /home/somebody/slipway", "a folder that this machine does not have"),
        (r"_src_path: .*", "_src_path: https://127.0.0.1:9/slipway.git", "slipway.git cannot be read"),
        (r"_src_path: .*\n", "", "has no _src_path"),
        (r"_commit: .*\n", "", "does not know its version"),
    ],
)
def test_a_template_that_cannot_be_reached_is_said_with_what_to_do(
    shop: Shop, tmp_path: Path, old: str, new: str, said: str
) -> None:
    answers = shop.path / ".copier-answers.yml"
    answers.write_text(re.sub(old, new, answers.read_text(encoding="utf-8")), encoding="utf-8")
    releases.commit(shop.path, "Move the template")
    told = shop.command("prepare", tmp_path / "prepared")
    assert told.returncode == 1
    assert said in told.stderr
    if "_src_path" in old:
        assert "https://…" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_project_that_is_not_updated_any_more_is_said(shop: Shop, tmp_path: Path) -> None:
    releases.git(shop.path, "rm", "--quiet", ".copier-answers.yml")
    told = shop.command("prepare", tmp_path / "prepared")
    assert (told.returncode, "does not come from the template" in told.stderr) == (1, True)


def test_a_release_that_does_not_exist_is_said(shop: Shop, tmp_path: Path) -> None:
    told = shop.command("prepare", tmp_path / "prepared", "--to", "v9.9.9")
    assert told.returncode == 1
    assert "copier update failed" in told.stderr
    assert releases.git(shop.path, "worktree", "list").count("\n") == 0


def test_a_token_that_github_refuses_is_said_and_not_shown(shop: Shop) -> None:
    prepared = shop.prepared("--to", "v0.4.0")
    told = shop.command("propose", prepared, UPDATE_TOKEN="another-token")
    assert told.returncode == 1
    assert "401 Bad credentials" in told.stderr
    assert "needs the rights to write contents, pull requests and workflows" in told.stderr
    assert "another-token" not in told.stdout + told.stderr
    told = shop.command("propose", prepared, UPDATE_TOKEN="")
    assert "UPDATE_TOKEN: is missing in the environment" in told.stderr


def test_a_token_without_the_right_to_workflows_is_said(shop: Shop) -> None:
    hook = shop.pulls.origin / "hooks/pre-receive"
    hook.write_text(
        "#!/bin/sh\necho 'refusing to allow a Personal Access Token to create or update workflow' >&2\nexit 1\n",
        encoding="utf-8",
    )
    hook.chmod(0o755)
    told = shop.command("propose", shop.prepared("--to", "v0.4.0"))
    assert told.returncode == 1
    assert "refusing to allow a Personal Access Token" in told.stderr
    assert "without the second one GitHub takes no change below .github/workflows" in told.stderr
    assert shop.pulls.requests == []


def test_a_prepared_commit_that_is_not_one_step_from_here_is_refused(shop: Shop, tmp_path: Path) -> None:
    prepared = Path(shutil.copytree(shop.prepared("--to", "v0.4.0"), tmp_path / "prepared"))
    releases.git(shop.path, "switch", "--quiet", "--create", "forged")
    (shop.path / "forged.txt").write_text("x\n", encoding="utf-8")
    for message in ("One", "Two"):
        releases.commit(shop.path, message)
    releases.git(shop.path, "update-ref", "refs/bundled/update-standard", "HEAD")
    releases.git(
        shop.path, "bundle", "create", "--quiet", str(prepared / "update.bundle"), "refs/bundled/update-standard"
    )
    forged = releases.git(shop.path, "rev-parse", "HEAD")
    releases.git(shop.path, "switch", "--quiet", "main")
    facts = prepared / "facts"
    facts.write_text(re.sub("commit=.*", f"commit={forged}", facts.read_text(encoding="utf-8")), encoding="utf-8")
    told = shop.command("propose", prepared)
    assert told.returncode == 1
    assert "does not hold one commit on top of this branch" in told.stderr
    assert shop.pulls.branch(BRANCH) == ""


def test_a_changelog_of_any_length_fits(shop: Shop) -> None:
    entries = "\n".join(f"- A change, number {number}, of which there are many." for number in range(3000))

    def say_a_lot(template: Path) -> None:
        changelog = template / releases.CHANGELOG
        text = changelog.read_text(encoding="utf-8")
        section = f"## [101.0.0] - 2030-01-01\n\n### Added\n\n{entries}\n\n## [0.4.0]"
        changelog.write_text(text.replace("## [0.4.0]", section), encoding="utf-8")

    with a_release(shop.template, "v101.0.0", say_a_lot):
        shop.update("--to", "v101.0.0")
    [pull] = shop.pulls.open
    assert len(pull["body"].encode()) < 65536
    assert pull["body"].endswith("see CHANGELOG.md of the template.)\n")
    assert "## Checks" in pull["body"]


def test_comments_are_json_that_github_takes_for_any_text(shop: Shop) -> None:
    odd = 'taken back, "quote" it: \\ $(id) <!-- - -->.\n```\na fence of its own\n```'
    shop.change(RUNBOOK, THEIRS_BEFORE, odd)
    untouched = shop.pulls.git("show", f"main:{RUNBOOK}")
    shop.update("--to", "v0.4.0")
    keep, _ = shop.pulls.comments(1)
    assert applied(shop.proposed(RUNBOOK), keep) == untouched
