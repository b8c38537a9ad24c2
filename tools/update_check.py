"""Tell a project's owner what `copier update` would do, without changing the project (`make update-check`).

The update is made in a copy of the project's last commit. The program then lists which files it changes, where it
conflicts with the project's own changes, which new questions it answers by their defaults, what migrations did, and
what is to be done by hand (CHANGELOG.md, "By hand").

It runs the template's code on this machine, as `copier update --trust` does: the template that the project names in its
answers file, at the version that is asked for.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from copier._vcs import get_repo

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import changelog  # noqa: E402

ANSWERS = ".copier-answers.yml"
KINDS = {"A": "new", "M": "changed", "D": "deleted", "R": "renamed", "T": "changed"}


class Problem(Exception):
    """Why there is nothing to report; the text says what to do."""


@dataclass(frozen=True)
class Report:
    """What an update would do."""

    old: str
    new: str
    source: str
    conflicts: list[str]
    files: list[tuple[str, str]]
    questions: dict[str, Any]
    told: list[str]
    by_hand: list[tuple[str, str]] | None
    notes: list[str] = field(default_factory=list)


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder and return what it printed."""
    command = ["git", "-C", str(folder), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise Problem(f"git {arguments[0]} failed: {told.stderr.strip()}")
    return told.stdout


def answers(folder: Path) -> dict[str, Any]:
    """Read a project's answers file."""
    try:
        found = yaml.safe_load((folder / ANSWERS).read_text(encoding="utf-8"))
    except OSError:
        raise Problem(f"{folder} has no {ANSWERS}: it was not generated, or this is not its root") from None
    if not isinstance(found, dict) or not found.get("_src_path"):
        raise Problem(f"{folder / ANSWERS} does not say which template it comes from (_src_path)")
    if not found.get("_commit"):
        raise Problem(f"{folder / ANSWERS} does not say which release it comes from (_commit): it cannot be updated")
    return found


def check(project: Path, to: str | None = None) -> Report:
    """Update a copy of a project and describe what happened.

    Args:
        project: The project's root, a Git repository.
        to: A tag, branch or commit of the template; its latest release when it is not given.

    Raises:
        Problem: The project cannot be updated.
    """
    project = project.resolve()
    before = answers(project)
    source = str(before["_src_path"])
    repository = get_repo(source)
    if repository is None:
        raise Problem(f"{source}, where the template was, is not a Git repository that can be reached from here")
    if not (project / ".git").exists():
        raise Problem(f"{project} is not a Git repository: git init && git add -A && git commit, and it can be updated")
    notes = []
    if git(project, "status", "--porcelain"):
        notes.append("Changes that are not committed are left out, and copier update wants them committed.")
    with tempfile.TemporaryDirectory(prefix="slipway-update-check-") as name:
        copy = Path(name) / "project"
        git(project, "clone", "--quiet", "--no-hardlinks", str(project), str(copy))
        if not (copy / ANSWERS).exists():
            raise Problem(f"{ANSWERS} is not committed: commit the project first")
        told = update(copy, to)
        after = answers(copy)
        renamed = {line.rpartition(" ")[2] for line in told if line.startswith("the answer ")}
        unmerged = git(copy, "diff", "--name-only", "-z", "--diff-filter=U").split("\0")
        git(copy, "add", "--all")
        return Report(
            old=str(before["_commit"]),
            new=str(after["_commit"]),
            source=source,
            conflicts=sorted(filter(None, unmerged)),
            files=changed(copy),
            questions={name: value for name, value in after.items() if name not in {*before, *renamed}},
            told=told,
            by_hand=by_hand(repository, Path(name) / "template", str(before["_commit"]), str(after["_commit"])),
            notes=notes,
        )


def update(copy: Path, to: str | None) -> list[str]:
    """Run `copier update` in the copy and return what its migrations said."""
    command = [sys.executable, "-m", "copier", "update", "--trust", "--defaults", *(["--vcs-ref", to] if to else [])]
    told = subprocess.run(
        command, cwd=copy, env={**os.environ, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise Problem("copier update fails: " + "\n".join(told.stderr.strip().splitlines()[-3:]))
    return [line.strip() for line in told.stderr.splitlines() if line.startswith("    ") and line.strip()]


def changed(copy: Path) -> list[tuple[str, str]]:
    """Return what happened to which file, as two columns."""
    fields = git(copy, "diff", "--cached", "--find-renames", "--name-status", "-z", "HEAD").split("\0")[:-1]
    files = []
    while fields:
        kind = fields.pop(0)[0]
        path = fields.pop(0)
        if kind == "R":
            path = f"{path} → {fields.pop(0)}"
        if path != ANSWERS:
            files.append((KINDS[kind], path))
    return sorted(files, key=lambda file: (list(KINDS.values()).index(file[0]), file[1]))


def by_hand(repository: str, folder: Path, old: str, new: str) -> list[tuple[str, str]] | None:
    """Read in the template's changelog what each release on the way asks for: version, text; None if it has none."""
    git(Path.cwd(), "clone", "--quiet", "--no-checkout", repository, str(folder))
    if not git(folder, "ls-tree", "--name-only", new, "--", "CHANGELOG.md"):
        return None
    text = git(folder, "show", f"{new}:CHANGELOG.md")
    steps = [(section.version, section.part(changelog.BY_HAND)) for section in changelog.between(text, old, new)]
    return [(version, part) for version, part in steps if part]


def instructions(by_hand: list[tuple[str, str]] | None) -> list[str]:
    """Word what the releases ask for."""
    if by_hand is None:
        return ["The template has no CHANGELOG.md: what is to be done by hand, if anything, its maintainers know."]
    steps = [line for version, text in by_hand for line in ("", f"  {version}", textwrap.indent(text, "    "))]
    return ["To do by hand, besides reading the difference:", *steps[1:]] if steps else ["Nothing to do by hand."]


def show(report: Report, project: Path, to: str | None) -> str:
    """Word a report."""
    if report.old == report.new:
        return "\n".join([f"{project} is at {report.new} already.", *report.notes])
    paragraphs = [[f"{project}: {report.old} → {report.new}", f"Template: {report.source}", *report.notes]]
    paragraphs.append(instructions(report.by_hand))
    if report.conflicts:
        head = f"{len(report.conflicts)} in conflict with what this project changed; the file will show both sides:"
        paragraphs.append([head, *(f"  {file}" for file in report.conflicts)])
    else:
        paragraphs.append(["No conflict."])
    if report.told:
        paragraphs.append(["Carried over:", *(f"  {line}" for line in report.told)])
    if report.questions:
        head = "New questions; -d name=value gives another answer than the default:"
        paragraphs.append([head, *(f"  {name}: {value!r}" for name, value in report.questions.items())])
    paragraphs.append([f"{len(report.files)} files change:", *(f"  {kind:<8} {path}" for kind, path in report.files)])
    command = f"copier update --trust{f' --vcs-ref {to}' if to else ''}"
    paragraphs.append([f"Nothing was changed. To update: cd {project} && git switch -c update && {command}"])
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def main() -> int:
    """Check one project, print the report, and end with 1 when there is none to make."""
    summary, *rest = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="update_check.py",
        description=summary,
        epilog="\n\n".join(rest),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("project", type=Path, help="the project's folder")
    parser.add_argument(
        "--to", metavar="REF", help="a tag, branch or commit of the template (default: its latest release)"
    )
    given = parser.parse_args()
    try:
        print(show(check(given.project, given.to), given.project, given.to))
    except Problem as problem:
        print(f"update-check: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
