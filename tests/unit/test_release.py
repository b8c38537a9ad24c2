"""A release that leaves owners without an instruction, or whose output nobody reviewed, is refused."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
import yaml

from tests import rendering
from tests.tooling import run
from tools import changelog, release

TEXT = """\
# Changelog

## [Unreleased]

## [1.3.0] - 2027-01-02

### By hand

- Install `infra/bin/entry` again.

### Added

- A runbook.

## [1.2.0] - 2026-12-01

### By hand

- Nothing.
"""
GOOD = release.Candidate(
    subject="release: v1.3.0", tags=["v1.1.0", "v1.2.0"], changelog=TEXT, migrations=["v1.1.0", "v1.3.0"], stale=[]
)


def test_a_complete_release_may_be_published() -> None:
    assert release.problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"subject": "Release 1.3.0"}, "a release “release: vX.Y.Z”"),
        ({"subject": "release: v1.3.0-rc1"}, "a release “release: vX.Y.Z”"),
        ({"tags": ["v1.2.0", "v1.3.0"]}, "v1.3.0 does not follow v1.3.0"),
        ({"tags": ["v1.10.0"]}, "v1.3.0 does not follow v1.10.0"),
        ({"changelog": TEXT.replace("[1.3.0]", "[1.4.0]")}, "no heading [1.3.0]"),
        ({"changelog": TEXT.replace("### By hand", "### Changed", 1)}, "“### By hand” is missing or empty"),
        ({"changelog": TEXT.replace("- Install `infra/bin/entry` again.\n", "")}, "“### By hand” is missing or empty"),
        ({"changelog": TEXT.replace(" - 2027-01-02", "")}, "lacks its date"),
        ({"changelog": TEXT.replace("[Unreleased]\n", "[Unreleased]\n\n- Late.\n")}, "left under [Unreleased]"),
        ({"migrations": ["v1.4.0"]}, "entries of v1.4.0. Give"),
        ({"stale": ["tests/golden/default/infra/README.md"]}, "stale (make golden): tests/golden/default"),
    ],
)
def test_an_incomplete_release_is_refused_with_what_to_do(change: dict[str, object], sentence: str) -> None:
    told = release.problems(replace(GOOD, **change))  # type: ignore[arg-type]
    assert len(told) == 1 or "By hand" in sentence
    assert sentence in told[0]


def test_what_is_to_be_done_by_hand_stands_first() -> None:
    parts = TEXT.split("### Added")
    turned = parts[0].replace("### By hand\n\n- Install `infra/bin/entry` again.\n\n", "") + (
        "### Added\n\n- A runbook.\n\n### By hand\n\n- Install `infra/bin/entry` again.\n\n## [1.2.0]"
    )
    assert [problem for problem in release.problems(replace(GOOD, changelog=turned)) if "has to stand first" in problem]


def test_every_release_so_far_says_what_is_to_be_done_by_hand() -> None:
    text = (rendering.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for section in changelog.sections(text):
        if section.version != changelog.UNRELEASED:
            assert (
                release.problems_of_changelog(
                    re.sub(r"\[Unreleased\]\n.*?(?=\n## )", "[Unreleased]\n", text, flags=re.S), f"v{section.version}"
                )
                == []
            )


def test_the_notes_of_a_release_are_its_part_of_the_changelog() -> None:
    told = run([sys.executable, rendering.ROOT / "tools/release.py", "--notes", "v0.2.0"]).stdout
    assert told.startswith("### By hand\n\n- On each server, once:")
    assert "## [0.1.0]" not in told
    assert run([sys.executable, rendering.ROOT / "tools/release.py", "--notes", "v9.9.9"], check=False).returncode == 1


def test_the_workflow_publishes_only_what_was_checked_and_only_that_job_may_write() -> None:
    workflow = yaml.safe_load((rendering.ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    assert set(workflow["jobs"]["publish"]["needs"]) == {"check", "passed"}
    writing = [name for name, job in workflow["jobs"].items() if "write" in job["permissions"].values()]
    assert writing == ["publish"]
    # Nothing of the repository runs with the right to write.
    assert not any("checkout" in step.get("uses", "") for step in workflow["jobs"]["publish"]["steps"])
    assert "tools/release.py" in workflow["jobs"]["check"]["steps"][-2]["run"]
