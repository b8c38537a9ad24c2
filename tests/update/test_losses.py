"""Whatever a release takes away from projects is written down in migrations/releases.toml."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from migrations import migrate
from tests import profiles, rendering
from tests.update import releases

STEPS = list(pairwise([*releases.releases(), releases.NEXT]))


def under(paths: list[str], path: str) -> bool:
    """Whether a path is one of these, or lies in one of them."""
    return any(path == each or path.startswith(f"{each}/") for each in paths)


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_a_file_that_a_release_no_longer_generates_was_moved_handed_over_or_removed_on_purpose(
    generated: Callable[[str, str], Path], profile: str
) -> None:
    for old, new in STEPS:
        gone = set(rendering.files(generated(old, profile))) - set(rendering.files(generated(new, profile)))
        entries = releases.between(old, new)
        known = [path for entry in entries for path in (*entry.moved, *entry.handed_over, *entry.removed)]
        lost = sorted(path for path in gone if not under(known, path))
        assert lost == [], f"{old} → {new}: write them into migrations/releases.toml"


@pytest.mark.parametrize("step", STEPS, ids=" → ".join)
def test_a_question_that_a_release_no_longer_asks_was_renamed_or_dropped_on_purpose(
    history: Path, step: tuple[str, str]
) -> None:
    old, new = (_questions(history, version) for version in step)
    entries = releases.between(*step)
    known = {name for entry in entries for name in (*entry.answers, *entry.dropped)}
    assert old.keys() - new.keys() - known == set(), "write them into migrations/releases.toml"
    for entry in entries:
        for was, name in entry.answers.items():
            # A recopy, and an update to a commit between two releases, run no migration.
            assert f"{was} | default(" in str(new[name]["default"]), f"the default of {name} does not read {was}"


def _questions(history: Path, version: str) -> dict[str, Any]:
    text = releases.git(history, "show", f"{version}:copier.yml")
    return {name: details for name, details in yaml.safe_load(text).items() if not name.startswith("_")}


def test_what_has_to_be_done_at_a_release_is_run_at_that_release() -> None:
    settings = yaml.safe_load((rendering.ROOT / "copier.yml").read_text(encoding="utf-8"))
    run = {entry["version"]: entry["command"] for entry in settings["_migrations"]}
    assert set(run) == {version for version, release in migrate.releases().items() if release.acts}
    for version, command in run.items():
        assert command[-3:] == [version, "[[ _stage ]]", "[[ _copier_conf.answers_file ]]"]
    for release in migrate.releases().values():
        assert set(release.handed_over) <= set(settings["_exclude"]), "Copier deletes what it no longer generates"


def test_a_moved_file_is_generated_at_its_new_place(generated: Callable[[str, str], Path]) -> None:
    files = {file for profile in profiles.PROFILES for file in rendering.files(generated(releases.NEXT, profile))}
    final = [new for entry in releases.between("v0.0.0", releases.NEXT) for new in entry.moved.values()]
    moved_on = {old for entry in releases.between("v0.0.0", releases.NEXT) for old in entry.moved}
    assert [path for path in final if path not in moved_on and not any(under([path], file) for file in files)] == []


@pytest.mark.parametrize("sentences", list(migrate.releases().values()))
def test_what_goes_on_purpose_says_why(sentences: migrate.Release) -> None:
    for why in (*sentences.handed_over.values(), *sentences.removed.values(), *sentences.dropped.values()):
        assert len(why.split()) >= 4, why
