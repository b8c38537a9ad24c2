"""Tells a comparison as text: unified diffs for the terminal, and Markdown for a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pygments import highlight
from pygments.formatters import TerminalFormatter
from pygments.lexers.diff import DiffLexer

from tests.review.comparison import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.review.comparison import Change, Comparison, Hunk
    from tests.review.revisions import Project, Revision

# GitHub takes 65,536 characters for a comment, and 1 MiB for a job's summary.
COMMENT_LIMIT = 60_000
SHOWN_IN_TABLE = 200
SHOWN_OF_A_FILE = 100


def plural(number: int, noun: str) -> str:
    """Count things: "1 file", "2 files", "1,200 lines"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def title(base: Revision, head: Revision) -> str:
    """Name what is compared."""
    return f"{base.name} → {head.name}"


def sentence(comparison: Comparison) -> str:
    """Sum a comparison up."""
    everybody = plural(len(comparison.profiles), "profile")
    if not comparison.changes:
        return f"No difference in {everybody}."
    kinds = ", ".join(f"{number} {status}" for status, number in comparison.statuses().items())
    concerned = comparison.concerned()
    where = (
        names(concerned, concerned)
        if len(concerned) == len(comparison.profiles)
        else f"{len(concerned)} of {everybody}"
    )
    shared = " What profiles share counts once." if len(concerned) > 1 else ""
    return (
        f"{plural(len(comparison.changes), 'file')} ({kinds}), "
        f"+{comparison.count('+'):,} −{comparison.count('-'):,} lines, in {where}.{shared}"
    )


def left_out(base: Revision, projects: Mapping[str, Project]) -> Iterator[str]:
    """Say which answers a revision did not know; questions that it did not ask are named together."""
    told: dict[str, list[str]] = {}
    for profile, project in projects.items():
        for question, answer in project.without.items():
            told.setdefault(f"{question}: {answer}", []).append(profile)
    for answer, profiles in told.items():
        yield f"{base.name} knows no answer “{answer}”: its default stands for it in {names(profiles, projects)}."


def described(change: Change) -> str:
    """Name a file, and the old name of one that was renamed."""
    path = f"{change.old} → {change.new}" if change.status == "renamed" else change.path
    return f"{path} ({', '.join(change.notes)})" if change.notes else path


def remark(change: Change, hunk: Hunk, comparison: Comparison) -> str:
    """Say for which profiles a hunk stands, where it does not stand for all that the file changes in."""
    if hunk.variant_of:
        others = names(hunk.variant_of, comparison.profiles)
        return f"{names(hunk.profiles, comparison.profiles)}; compared with {others}"
    if set(hunk.profiles) == set(change.profiles):
        return ""
    return names(hunk.profiles, comparison.profiles)


def unified(change: Change, comparison: Comparison) -> Iterator[str]:
    """Write a change as a unified diff; what Git would leave empty after the second @@ names profiles."""
    yield f"--- {'/dev/null' if change.status == 'added' else f'a/{change.old}'}"
    yield f"+++ {'/dev/null' if change.status == 'removed' else f'b/{change.new}'}"
    for hunk in change.hunks:
        yield f"@@ {hunk.header} @@ {remark(change, hunk, comparison)}".rstrip()
        yield from (f"{line.kind}{line.text}" for line in hunk.lines)


def table(comparison: Comparison) -> Iterator[str]:
    """Write a line for each file."""
    rows = [
        (change.status, described(change), f"+{change.count('+')}", f"−{change.count('-')}", change.profiles)
        for change in comparison.changes
    ]
    path, added, removed = (max((len(row[column]) for row in rows), default=0) for column in (1, 2, 3))
    for status, name, plus, minus, profiles in rows:
        shown = names(profiles, comparison.profiles)
        yield f"  {status:<8} {name:<{path}}  {plus:>{added}} {minus:>{removed}}  {shown}"


def terminal(
    base: Revision, head: Revision, comparison: Comparison, notes: list[str], *, colour: bool, diffs: bool = True
) -> str:
    """Write everything for a terminal, the summary first."""

    def diff(text: str) -> str:
        return highlight(text, DiffLexer(stripnl=False), TerminalFormatter()) if colour else text

    lines = [f"{title(base, head)}: {sentence(comparison)}", *notes]
    if comparison.changes:
        lines += ["", *table(comparison)]
    parts = ["\n".join(lines) + "\n"]
    for change in comparison.changes if diffs else ():
        parts.append(f"\n{change.status}: {described(change)}, in {names(change.profiles, comparison.profiles)}\n")
        parts.append(diff("\n".join(unified(change, comparison)) + "\n"))
    return "".join(parts)


def markdown(
    base: Revision, head: Revision, comparison: Comparison, notes: list[str], *, limit: int = COMMENT_LIMIT
) -> str:
    """Write what fits into `limit` characters of a pull request's comment: the summary, a table, the diffs folded."""
    lines = ["### What this changes in generated projects", "", f"{title(base, head)}: {sentence(comparison)}"]
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    if not comparison.changes:
        return "\n".join(lines) + "\n"
    lines += ["", "| | file | lines | profiles |", "| --- | --- | ---: | --- |"]
    for change in comparison.changes[:SHOWN_IN_TABLE]:
        counts = f"+{change.count('+')} −{change.count('-')}"
        shown = names(change.profiles, comparison.profiles)
        lines.append(f"| {change.status} | <code>{_escaped(described(change))}</code> | {counts} | {shown} |")
    if len(comparison.changes) > SHOWN_IN_TABLE:
        lines.append(f"| | … and {len(comparison.changes) - SHOWN_IN_TABLE} more | | |")
    text = "\n".join(lines) + "\n"
    left = 0
    for change in comparison.changes:
        folded = _folded(change, comparison)
        # The room that the last sentence needs is kept.
        if len(text) + len(folded) < limit - 200:
            text += folded
        else:
            left += 1
    return text + (f"\n{plural(left, 'diff')} had no room here: the page shows all of them.\n" if left else "")


def _folded(change: Change, comparison: Comparison) -> str:
    lines = list(unified(change, comparison))
    more = len(lines) - SHOWN_OF_A_FILE
    if more > 0:
        lines = [*lines[:SHOWN_OF_A_FILE], f"… {plural(more, 'line')} more in the page"]
    code = "\n".join(lines)
    # Longer than any that the code itself holds.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", code)), default=0))
    summary = f"<code>{_escaped(described(change))}</code> {names(change.profiles, comparison.profiles)}"
    return f"\n<details><summary>{summary}</summary>\n\n{fence}diff\n{code}\n{fence}\n\n</details>\n"


def _escaped(text: str) -> str:
    """Keep a file's name what it is, in HTML within a table of Markdown."""
    return re.sub(r"[^a-zA-Z0-9 ./→-]", lambda match: f"&#{ord(match[0])};", text)
