"""Reads CHANGELOG.md: its releases, and what each asks a project's owner to do by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNRELEASED = "Unreleased"
BY_HAND = "By hand"


@dataclass(frozen=True)
class Section:
    """What stands below the heading of one release; `version` is "1.2.3", or "Unreleased"."""

    version: str
    text: str

    def part(self, title: str) -> str:
        """Return what stands below a heading of the third level; empty when there is no such heading."""
        found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^### |\Z)", self.text, re.MULTILINE | re.DOTALL)
        return found[1].strip("\n") if found else ""


def sections(text: str) -> list[Section]:
    """Return the releases in the order of the file, newest first."""
    pieces = re.split(r"^## \[([^\]]+)\][^\n]*\n", text, flags=re.MULTILINE)[1:]
    return [Section(version, body.strip("\n") + "\n") for version, body in zip(pieces[::2], pieces[1::2], strict=True)]


def number(version: str) -> tuple[int, ...]:
    """Make versions comparable: "v1.2.3" as Git's tags have it, also with what `git describe` adds, or "1.2.3"."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not found:
        raise ValueError(f"{version} is no version")
    return tuple(int(part) for part in found.groups())


def between(text: str, old: str, new: str) -> list[Section]:
    """Return the releases after `old` up to `new`, oldest first; the unreleased ones too when `new` is no release."""
    found = sections(text)
    released = [section for section in found if section.version != UNRELEASED]
    passed = [section for section in released if number(old) < number(section.version) <= number(new)]
    if new.removeprefix("v") not in {section.version for section in released}:
        passed = [*(section for section in found if section.version == UNRELEASED), *passed]
    return passed[::-1]
