"""The table of the standard names, for every rule, a file that is generated and a test that exists."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "standard.md"

# How many rules each section of the standard has. A rule that is dropped from the table fails here.
RULES_BY_SECTION = {1: 6, 2: 4, 3: 7, 4: 3, 5: 6, 6: 3, 7: 3, 8: 3, 9: 3, 10: 14}
# Subjects of work that is still to come; no other excuse is accepted.
PLANNED_SUBJECTS = {"deploys", "servers", "backups", "topologies"}


@dataclass(frozen=True)
class Rule:
    """One row of the table."""

    id: str
    text: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    planned: str


def rules() -> list[Rule]:
    """Read the table."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not re.match(r"\| \d+\.\d+ \|", line):
            continue
        number, text, files, proof = (cell.strip() for cell in line.strip("| ").split(" | "))
        planned = re.search(r"planned: (\w+)", proof)
        found.append(
            Rule(
                number,
                text,
                tuple(re.findall(r"`([^`]+)`", files)),
                tuple(re.findall(r"`(tests/[^`]+)`", proof)),
                planned[1] if planned else "",
            )
        )
    return found


def test_every_rule_of_the_standard_has_its_row() -> None:
    expected = [f"{section}.{number}" for section, count in RULES_BY_SECTION.items() for number in range(1, count + 1)]
    assert [rule.id for rule in rules()] == expected


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_rule_is_proved_by_a_test_that_exists_or_planned_with_its_subject(rule: Rule) -> None:
    if rule.planned:
        assert rule.planned in PLANNED_SUBJECTS
    if not rule.planned:
        assert rule.tests, f"rule {rule.id} has no test: {rule.text}"
    for test in rule.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), f"{path} does not exist"
        functions = {
            node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{path} has no test {name}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_rule_names_files_that_are_generated(rule: Rule) -> None:
    assert rule.files or rule.planned, f"rule {rule.id} names no file: {rule.text}"
    golden = ROOT / "tests" / "golden"
    for file in rule.files:
        found = [path for profile in golden.iterdir() if profile.is_dir() for path in profile.glob(file)]
        assert found, f"{file} is in no golden project"
