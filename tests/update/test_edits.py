"""What a project's people changed outlives an update, from every release.

Changes where the template has a place for them never conflict. What becomes of others is the table in docs/update.md;
`RECORD=1 make test ARGS=tests/update/test_edits.py` writes it anew.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

from tests import profiles, rendering
from tests.terraform.test_check import check
from tests.tooling import find, require, run
from tests.update import releases
from tests.update.edits import CONFLICT, EDITS, PLACES, Edit

VERSIONS = list(releases.releases())
PAGE = rendering.ROOT / "docs" / "update.md"
KEPT, CONFLICTS, ABSENT = "kept", "conflict", "–"

# What conflicts with other answers than those of the table: edit → profiles and releases.
ELSEWHERE = {
    # With pgBackRest an image came to the end of the file.
    "a target in `docker-bake.hcl`": {("everything", version) for version in ("v0.1.0", "v0.2.0", "v0.3.0")},
}


def table() -> dict[str, dict[str, str]]:
    """Read the table: edit → release → outcome."""
    lines = re.findall(r"^\| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    rows = [line.split(" | ") for line in lines]
    head = next((row for row in rows if row[0] == "edit"), ["edit"])
    titles = {edit.title for edit in EDITS}
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows if row[0] in titles}


def record(version: str, outcomes: dict[str, str]) -> None:
    """Write the column of a release."""
    rows = {edit.title: {**table().get(edit.title, {}), version: outcomes[edit.title]} for edit in EDITS}
    lines = [
        f"| edit | {' | '.join(VERSIONS)} |",
        "| --- |" + " --- |" * len(VERSIONS),
        *(f"| {title} | {' | '.join(row.get(column, ABSENT) for column in VERSIONS)} |" for title, row in rows.items()),
    ]
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"\| edit \|.*?\n(?!\|)", "\n".join(lines) + "\n", text, flags=re.DOTALL), encoding="utf-8")
    PAGE.write_text(re.sub(r"\d+ of \d+ conflict", counted(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def counted() -> str:
    """Say how many cells of the table are conflicts."""
    cells = [cell for row in table().values() for cell in row.values() if cell != ABSENT]
    return f"{cells.count(CONFLICTS)} of {len(cells)} conflict"


def rounds(edits: Iterable[Edit]) -> list[list[Edit]]:
    """Group edits so that no two of a group touch the same file: each can be judged by itself."""
    groups: list[list[Edit]] = []
    for edit in edits:
        free = next((group for group in groups if not any(edit.files & other.files for other in group)), None)
        if free is None:
            groups.append([edit])
        else:
            free.append(edit)
    return groups


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_says_what_becomes_of_an_edit_in_a_generated_file(
    generated: Callable[[str, str], Path], version: str, tmp_path: Path
) -> None:
    outcomes: dict[str, str] = {}
    for number, group in enumerate(rounds(EDITS)):
        project = tmp_path / str(number)
        shutil.copytree(generated(version, "default"), project)
        releases.begin(project, f"Slipway {version}")
        fitting = [edit for edit in group if edit.fits(project)]
        for edit in fitting:
            edit.make(project)
        releases.commit(project, "What this project changed")
        releases.update(project, releases.BY_HAND)
        outcomes |= {
            edit.title: ABSENT if edit not in fitting else KEPT if edit.holds(project) else CONFLICTS for edit in group
        }
        # Whoever updates sees a conflict in the file and in Git, and nothing else is lost or left lying about.
        unmerged = releases.git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
        assert set(unmerged) == conflicted(project)
        assert not list(project.rglob("*.rej"))
    if os.environ.get("RECORD"):
        record(version, outcomes)
    # A release of today has no column yet: nothing conflicts with itself.
    expected = {title: row.get(version, KEPT) for title, row in table().items()}
    told = {
        title: KEPT if outcome == ABSENT and version not in table()[title] else outcome
        for title, outcome in outcomes.items()
    }
    assert told == expected, "see the head of this file"


def test_the_page_counts_its_conflicts() -> None:
    assert f"{counted()}," in PAGE.read_text(encoding="utf-8")


def conflicted(project: Path) -> set[str]:
    """Name the files with conflict markers."""
    return {
        file for file, (_, content) in rendering.contents(project).items() if CONFLICT.search(content.decode("utf-8"))
    }


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_project_changed_is_kept_and_the_result_is_valid(
    start: Callable[[str, str], Path], version: str, profile: str
) -> None:
    project = start(version, profile)
    made = change_and_update(project, version, profile)
    assert conflicted(project) == set()
    assert not list(project.rglob("*.rej"))
    assert [edit.title for edit in made if not edit.holds(project)] == []
    numbers = Counter(path.name[:4] for path in (project / "docs/adr").glob("[0-9]*.md"))
    assert [number for number, count in numbers.items() if count > 1] == []
    is_valid(project)


def change_and_update(project: Path, version: str, profile: str) -> list[Edit]:
    """Make every edit that is kept in one project, as after some months, and update it; returns what was made."""
    outcomes = table()
    mergeable = [
        edit
        for edit in EDITS
        if outcomes[edit.title].get(version, KEPT) == KEPT
        and not edit.alone
        and (profile, version) not in ELSEWHERE.get(edit.title, set())
    ]
    # A project's owner makes only what its files allow.
    made = [edit for edit in [*PLACES, *mergeable] if edit.fits(project)]
    assert len(made) >= 25
    for edit in made:
        edit.make(project)
    releases.commit(project, "What this project changed")
    releases.update(project, releases.BY_HAND)
    return made


@pytest.mark.parametrize(
    ("version", "profile", "left"),
    # nginx and the providers of OVHcloud are asked elsewhere.
    [("v0.1.0", "default", set()), ("v0.1.0", "everything", {"proxy", "terraform"}), ("v0.3.0", "terraform", set())],
)
def test_a_project_that_changed_much_passes_every_check_after_an_update(
    start: Callable[[str, str], Path], version: str, profile: str, left: set[str]
) -> None:
    for tool in ("docker-compose", "shellcheck", "hadolint", "gitleaks", "jq", "caddy"):
        require(tool, version_args=("version",))
    project = start(version, profile)
    change_and_update(project, version, profile)
    releases.commit(project, "Update the standard")
    names = run([project / "infra/bin/check", "--list"]).stdout.split()
    told = check(project, *(name for name in names if name not in left))
    assert told.returncode == 0, told.stdout


def is_valid(project: Path) -> None:
    """Check the files of a project with what reads them."""
    for path in [*project.rglob("*.yml"), *project.rglob("*.yaml")]:
        list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=Tagged))
    run(["bash", "-c", 'for file in infra/bin/*; do bash -n "$file" || exit; done'], cwd=project)
    if find("docker-compose"):
        files = ["--env-file", "infra/check.env", "--env-file", "infra/custom/check.env"]
        arguments = ["-f", "infra/docker-compose.prod.yml", "config", "--quiet"]
        told = run(["docker", "compose", *files, *arguments], cwd=project)
        assert told.stderr == "", "Compose warns"


class Tagged(yaml.CSafeLoader):
    """Reads tags of Compose and Ansible as nothing."""


Tagged.add_multi_constructor("!", lambda *_: None)
