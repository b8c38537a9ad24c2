"""Compares two renderings of every profile, and shows once what several profiles share.

Git's own comparison (libgit2) finds renames, hunks and line numbers. What is grouped here is exactly what is shown:
hunks with the same lines, those around the change included; line numbers are those of the first profile.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2
from pygit2.enums import DeltaStatus, DiffFlag, FileMode

from tests import rendering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STATUSES = {
    DeltaStatus.ADDED: "added",
    DeltaStatus.DELETED: "removed",
    DeltaStatus.RENAMED: "renamed",
    DeltaStatus.MODIFIED: "changed",
    DeltaStatus.TYPECHANGE: "changed",
}

CONTEXT_LINES = 3


@dataclass(frozen=True)
class Line:
    """A line of a hunk: `kind` is " ", "+" or "-" as in a unified diff, numbers count from 1."""

    kind: str
    text: str
    old: int | None
    new: int | None


@dataclass(frozen=True)
class Hunk:
    """Neighbouring lines that changed, with the lines around them, and the profiles in which they did."""

    lines: tuple[Line, ...]
    profiles: tuple[str, ...]
    variant_of: tuple[str, ...] = ()
    """The profiles whose added file is shown whole, where this is only how another one's differs from it."""

    @property
    def header(self) -> str:
        """The position as in a unified diff, without the signs around it."""
        spans = []
        for sign, numbers in (("-", [line.old for line in self.lines]), ("+", [line.new for line in self.lines])):
            present = [number for number in numbers if number is not None]
            spans.append(f"{sign}{present[0] if present else 0},{len(present)}")
        return " ".join(spans)

    def count(self, kind: str) -> int:
        """Count its lines of a kind; where a variant lacks a line of another one, nothing was removed."""
        return 0 if kind == "-" and self.variant_of else sum(line.kind == kind for line in self.lines)


@dataclass(frozen=True)
class Change:
    """What became of a file, in the profiles where the same became of it."""

    status: str
    """One of `STATUSES`."""
    old: str
    new: str
    hunks: tuple[Hunk, ...]
    profiles: tuple[str, ...]
    modes: tuple[int, int]
    binary: bool = False

    @property
    def path(self) -> str:
        """Where the file is; one that was removed: where it was."""
        return self.old if self.status == "removed" else self.new

    @property
    def notes(self) -> list[str]:
        """What the lines do not show."""
        told = []
        if self.status in {"changed", "renamed"} and self.modes[0] != self.modes[1]:
            told.append(f"mode {self.modes[0]:06o} → {self.modes[1]:06o}")
        if self.binary:
            told.append("binary")
        if self.status == "added" and self.modes[1] == FileMode.BLOB_EXECUTABLE:
            told.append("executable")
        return told

    def count(self, kind: str) -> int:
        """Count the lines of a kind that are shown: those that profiles share count once."""
        return sum(hunk.count(kind) for hunk in self.hunks)


@dataclass(frozen=True)
class Totals:
    """How many files and lines differ in one profile."""

    files: int
    added: int
    removed: int


@dataclass(frozen=True)
class Comparison:
    """Everything that differs between two revisions."""

    profiles: tuple[str, ...]
    changes: tuple[Change, ...]
    totals: Mapping[str, Totals]
    """By profile; each has an entry."""

    def statuses(self) -> dict[str, int]:
        """Count the changes of each kind; kinds that do not occur are left out."""
        counted = Counter(change.status for change in self.changes)
        return {status: counted[status] for status in dict.fromkeys(STATUSES.values()) if counted[status]}

    def count(self, kind: str) -> int:
        """Count the lines of a kind that are shown."""
        return sum(change.count(kind) for change in self.changes)

    def concerned(self) -> list[str]:
        """Return the profiles in which anything differs."""
        return [name for name in self.profiles if self.totals[name].files]


def names(profiles: Iterable[str], everybody: Iterable[str]) -> str:
    """Name profiles in as few words as possible."""
    chosen, everybody = list(profiles), list(everybody)
    others = [name for name in everybody if name not in chosen]
    if not others:
        return f"all {len(everybody)} profiles" if len(everybody) > 1 else everybody[0]
    if len(others) < len(chosen):
        return f"all profiles but {', '.join(others)}"
    return ", ".join(chosen)


def compare(before: Mapping[str, Path], after: Mapping[str, Path]) -> Comparison:
    """Compare the projects of both revisions, profile by profile.

    Args:
        before: Each profile's folder at the older revision.
        after: The same profiles' folders at the newer one.
    """
    found: dict[tuple[str, str, str, tuple[int, int], bool], dict[str, list[tuple[Line, ...]]]] = {}
    totals = {}
    with tempfile.TemporaryDirectory() as folder:
        repository = pygit2.init_repository(folder, bare=True)
        for profile in after:
            files = added = removed = 0
            for patch in _patches(repository, before[profile], after[profile]):
                delta = patch.delta
                change = (
                    STATUSES[DeltaStatus(delta.status)],
                    delta.old_file.path,
                    delta.new_file.path,
                    (int(delta.old_file.mode), int(delta.new_file.mode)),
                    bool(delta.flags & DiffFlag.BINARY),
                )
                _, plus, minus = patch.line_stats
                files, added, removed = files + 1, added + plus, removed + minus
                found.setdefault(change, {})[profile] = [_lines(hunk) for hunk in patch.hunks]
            totals[profile] = Totals(files, added, removed)
    changes = [
        Change(status, old, new, _shared(status, hunks), tuple(hunks), modes, binary)
        for (status, old, new, modes, binary), hunks in found.items()
    ]
    # As in a tree: what lies in a folder stays together.
    changes.sort(key=lambda change: (change.path.split("/")[:-1], change.path, change.status))
    return Comparison(tuple(after), tuple(changes), totals)


def _patches(repository: pygit2.Repository, before: Path, after: Path) -> Iterator[pygit2.Patch]:
    difference = _tree(repository, before).diff_to_tree(_tree(repository, after), context_lines=CONTEXT_LINES)
    difference.find_similar()
    yield from (patch for patch in difference if patch is not None)


def _tree(repository: pygit2.Repository, folder: Path) -> pygit2.Tree:
    """Write a folder as Git would commit it."""
    index = pygit2.Index()
    for name in rendering.files(folder):
        path = folder / name
        if path.is_symlink():
            mode, blob = FileMode.LINK, repository.create_blob(str(path.readlink()).encode())
        else:
            executable = path.stat().st_mode & 0o111
            mode = FileMode.BLOB_EXECUTABLE if executable else FileMode.BLOB
            blob = repository.create_blob(path.read_bytes())
        index.add(pygit2.IndexEntry(name, blob, mode))
    tree = repository[index.write_tree(repository)]
    assert isinstance(tree, pygit2.Tree)
    return tree


def _lines(hunk: pygit2.DiffHunk) -> tuple[Line, ...]:
    lines: list[Line] = []
    for line in hunk.lines:
        if line.origin in " +-":
            text = line.raw_content.decode(errors="replace").removesuffix("\n")
            numbers = (number if number > 0 else None for number in (line.old_lineno, line.new_lineno))
            lines.append(Line(line.origin, text, *numbers))
        else:
            # Git's remark on the line before, which has no line feed.
            last = lines.pop()
            lines.append(Line(last.kind, last.text + "  (no line feed at the end)", last.old, last.new))
    return tuple(lines)


def _shared(status: str, hunks: Mapping[str, list[tuple[Line, ...]]]) -> tuple[Hunk, ...]:
    """Put equal hunks of several profiles together, in the order of the file."""
    groups: dict[tuple[tuple[str, str], ...], tuple[tuple[Line, ...], list[str]]] = {}
    for profile, own in hunks.items():
        for lines in own:
            # The same hunk may occur twice in a file; it is shown once all the same.
            group = groups.setdefault(tuple((line.kind, line.text) for line in lines), (lines, []))[1]
            if profile not in group:
                group.append(profile)
    shared = [Hunk(lines, tuple(profiles)) for lines, profiles in groups.values()]
    if status in {"added", "removed"}:
        return tuple(_whole(status, shared))
    return tuple(sorted(shared, key=lambda hunk: (hunk.lines[0].new or hunk.lines[0].old or 0, -len(hunk.profiles))))


def _whole(status: str, variants: list[Hunk]) -> Iterator[Hunk]:
    """Show a whole file once: as most profiles have it; of an added one also how the others differ from that."""
    variants = sorted(variants, key=lambda hunk: -len(hunk.profiles))
    if not variants:
        return
    first = variants[0]
    if status == "removed":
        yield replace(first, profiles=tuple(name for hunk in variants for name in hunk.profiles))
        return
    yield first
    for variant in variants[1:]:
        for hunk in pygit2.Patch.create_from(_text(first), _text(variant), context_lines=CONTEXT_LINES).hunks:
            yield Hunk(_lines(hunk), variant.profiles, first.profiles)


def _text(hunk: Hunk) -> bytes:
    return "".join(f"{line.text}\n" for line in hunk.lines).encode()
