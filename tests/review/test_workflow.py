"""A pull request is told once what it changes, by a job that runs nothing of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import rendering, tooling

if TYPE_CHECKING:
    from pathlib import Path

OWN = "<!-- generated-difference -->\nbefore"

# Answers a question for comments from a file, asks jq as gh does, and writes down every other call.
GH = """\
#!/usr/bin/env bash
set -euo pipefail
if [[ " $* " == *" --jq "* ]]; then
  exec jq --raw-output "${@: -1}" comments.json
fi
printf '%s\\n' "$*" >>calls
cp comment.md sent
"""


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    """The jobs of the workflow."""
    text = (rendering.ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["jobs"])


def comment(jobs: dict[str, Any], folder: Path, present: list[tuple[int, str, str]]) -> tuple[str, str]:
    """Run the step that comments; return what it asked GitHub for, and the text that it sent."""
    tooling.require("jq")
    (folder / "bin").mkdir()
    (folder / "bin/gh").write_text(GH, encoding="utf-8")
    (folder / "bin/gh").chmod(0o755)
    comments = [{"id": number, "user": {"login": author}, "body": body} for number, author, body in present]
    (folder / "comments.json").write_text(json.dumps(comments), encoding="utf-8")
    (folder / "diff.md").write_text("### What\n`$(touch ran)` @file\n", encoding="utf-8")
    [script] = [step["run"] for step in jobs["comment"]["steps"] if "run" in step]
    variables = {
        "PATH": f"{folder / 'bin'}:{tooling.search_path()}",
        "GITHUB_REPOSITORY": "owner/slipway",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_RUN_ID": "42",
        "NUMBER": "7",
    }
    tooling.run(["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=variables)
    assert not (folder / "ran").exists()
    return (folder / "calls").read_text(encoding="utf-8"), (folder / "sent").read_text(encoding="utf-8")


def test_the_first_time_it_writes_a_comment(jobs: dict[str, Any], tmp_path: Path) -> None:
    # Somebody else's comment is left alone, whatever it begins with.
    calls, sent = comment(jobs, tmp_path, [(1, "person", OWN), (2, "github-actions[bot]", "Another workflow's")])
    assert calls == "api --silent --method POST repos/owner/slipway/issues/7/comments --field body=@comment.md\n"
    assert sent.startswith("<!-- generated-difference -->\n### What\n`$(touch ran)` @file\n")
    assert "(https://github.example/owner/slipway/actions/runs/42)" in sent


def test_the_next_time_it_writes_that_comment_anew(jobs: dict[str, Any], tmp_path: Path) -> None:
    calls, _ = comment(jobs, tmp_path, [(1, "person", OWN), (2, "github-actions[bot]", OWN)])
    assert calls == "api --silent --method PATCH repos/owner/slipway/issues/comments/2 --field body=@comment.md\n"


def test_what_may_write_runs_nothing_of_the_pull_request(jobs: dict[str, Any]) -> None:
    writing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writing == {"comment"}
    job = jobs["comment"]
    assert job["permissions"] == {"pull-requests": "write"}
    assert job["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
    assert used == ["actions/download-artifact"]
    [script] = [step["run"] for step in job["steps"] if "run" in step]
    # What a pull request chose reaches the script in variables and files, never in its text.
    assert "${{" not in script


def test_the_difference_is_in_the_summary_and_kept_for_forks_too(jobs: dict[str, Any]) -> None:
    job = jobs["review"]
    assert job["permissions"] == {"contents": "read"}
    assert job["if"] == "github.event_name == 'pull_request'"
    [script] = [step["run"] for step in job["steps"] if "run" in step]
    assert script.splitlines()[-1] == 'cat review/diff.md >>"$GITHUB_STEP_SUMMARY"'
    [kept] = [step["with"] for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert kept["path"] == "review/"
