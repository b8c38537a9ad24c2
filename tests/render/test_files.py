"""Every combination of answers gives exactly the files that it needs, completely rendered."""

from __future__ import annotations

import json
import re
import shutil
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from jinja2 import UndefinedError

from tests import answers, profiles, rendering

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMBINATIONS = list(profiles.combinations_by_name())

# Bash and regular expressions begin a character class like this.
NOT_A_DELIMITER = re.compile(r"\[\[:[a-z]+:\]")
DELIMITER = re.compile(r"\[\[|\]\]|\[%|%\]|\[#|#\]")


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_files_are_those_that_the_answers_need_and_no_others(rendered: Callable[[str], Path], name: str) -> None:
    project = rendered(name)
    found, expected = set(rendering.files(project)), answers.expected_files(answers.recorded(project))
    assert found - expected == set(), "these files are too many"
    assert expected - found == set(), "these files are missing"


def literal_forms(title: str) -> list[str]:
    """Spell a project's name as the quoting filters may write it."""
    markdown = re.sub(r"([^\w\s])", r"\\\1", title, flags=re.ASCII)
    return [markdown, json.dumps(title), json.dumps(title, ensure_ascii=False)[1:-1].replace("${", "$${"), title]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_no_delimiter_is_left_over(rendered: Callable[[str], Path], name: str) -> None:
    project = rendered(name)
    template = rendering.ROOT / "template"
    paths = [path.relative_to(template).as_posix() for path in template.rglob("*") if path.suffix != ".jinja"]
    static = {re.sub(r"\[%.*?%\]", "", path) for path in paths}
    title = answers.recorded(project)["project_name"]
    left_over = []
    for file in rendering.files(project):
        # A file without the suffix is copied as it is: Bash may have brackets.
        if file in static or file == ".copier-answers.yml":
            continue
        for number, line in enumerate((project / file).read_text(encoding="utf-8").splitlines(), start=1):
            rest = NOT_A_DELIMITER.sub("", line)
            for form in literal_forms(title):
                rest = rest.replace(form, "")
            if DELIMITER.search(rest):
                left_over.append(f"{file}:{number}: {line}")
        assert not DELIMITER.search(file)
    assert left_over == []


@pytest.mark.parametrize("name", ["default", "everything", "minimal"])
def test_scripts_can_be_executed_and_nothing_else_can(rendered: Callable[[str], Path], name: str) -> None:
    project = rendered(name)
    programs = answers.programs(answers.recorded(project))
    scripts = {*(f"infra/bin/{name}" for name in programs), "infra/custom/test"}
    executable = {file for file, (mode, _) in rendering.contents(project).items() if mode}
    assert executable == scripts
    for script in scripts:
        assert (project / script).read_bytes().startswith(b"#!/usr/bin/env bash\n"), script


@pytest.mark.parametrize("name", COMBINATIONS)
def test_text_files_end_with_one_line_feed_and_have_no_trailing_spaces(
    rendered: Callable[[str], Path], name: str
) -> None:
    project = rendered(name)
    wrong = []
    for file in rendering.files(project):
        text = (project / file).read_bytes().decode("utf-8")
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            wrong.append(f"{file}: end")
        wrong += [
            f"{file}:{number}"
            for number, line in enumerate(text.split("\n"), start=1)
            if line != line.rstrip() or "\n\n\n" in line
        ]
        # Python's own style has two between functions.
        if "\n\n\n" in text and not file.endswith(".py"):
            wrong.append(f"{file}: several empty lines in a row")
    assert wrong == []


def break_template(source: Path, destination: Path, old: str, new: str) -> Path:
    shutil.copytree(source, destination)
    text = (destination / "copier.yml").read_text(encoding="utf-8")
    assert old in text
    (destination / "copier.yml").write_text(text.replace(old, new), encoding="utf-8")
    return destination


@pytest.mark.parametrize("question", ["server_architecture", "backup_schedule", "acme_email"])
def test_a_question_that_is_gone_but_still_used_stops_the_copy(source: Path, tmp_path: Path, question: str) -> None:
    broken = break_template(source, tmp_path / "broken", f"\n{question}:\n", f"\n{question}_renamed:\n")
    with pytest.raises((UndefinedError, Exception), match=rf"'{question}' is undefined"):
        rendering.render(broken, tmp_path / "project", profiles.REQUIRED)


def test_the_pairwise_cover_is_the_same_at_every_call() -> None:
    first = profiles.pairwise()
    profiles._cover.cache_clear()
    assert profiles.pairwise() == first


def test_every_pair_of_choices_that_the_template_takes_meets_in_the_cover() -> None:
    values = profiles._values()
    covered = set().union(*(profiles.pairs(row) for row in profiles._cover()))
    asked = {name for row in profiles.pairwise() for name in row}
    assert set(values) <= asked
    for first, second in combinations(values, 2):
        for one in values[first]:
            for two in values[second]:
                pair = ((first, repr(one)), (second, repr(two)))
                assert (pair in covered) == bool(profiles._completed({first: one, second: two})), pair
