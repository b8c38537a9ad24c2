"""Says whether a commit `release: vX.Y.Z` may be published, and with which notes (.github/workflows/release.yml).

A release is refused when its part of CHANGELOG.md lacks what a project's owner must do by hand, when the golden
projects are not what the template renders, when its number does not follow the last one, or when a migration waits for
a later release.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from migrations import migrate  # noqa: E402
from tools import changelog  # noqa: E402


@dataclass(frozen=True)
class Candidate:
    """What a release is judged by: its commit's subject, the tags of earlier ones, and files."""

    subject: str
    tags: list[str]
    changelog: str
    migrations: list[str]
    stale: list[str]


def version_of(subject: str) -> str:
    """Return vX.Y.Z from the subject of a release's commit; empty when it is none."""
    found = re.fullmatch(r"release: (v\d+\.\d+\.\d+)", subject)
    return found[1] if found else ""


def problems(candidate: Candidate) -> list[str]:
    """Return why the release cannot be published, as sentences that say what to do."""
    version = version_of(candidate.subject)
    if not version:
        return [f"The commit is called “{candidate.subject}”, and a release “release: vX.Y.Z”."]
    found = []
    if later := [tag for tag in candidate.tags if changelog.number(tag) >= changelog.number(version)]:
        found.append(f"{version} does not follow {later[0]}, which is published: a tag is never moved.")
    found += problems_of_changelog(candidate.changelog, version)
    if waiting := [name for name in candidate.migrations if changelog.number(name) > changelog.number(version)]:
        found.append(
            f"migrations/releases.toml has entries of {', '.join(waiting)}. Give them this number, also in copier.yml."
        )
    if candidate.stale:
        found.append(f"The golden projects are stale (make golden): {', '.join(candidate.stale)}.")
    return found


def problems_of_changelog(text: str, version: str) -> list[str]:
    """Return what the release's part of the changelog lacks."""
    found = changelog.sections(text)
    section = next((each for each in found if each.version == version.removeprefix("v")), None)
    if section is None:
        return [f"CHANGELOG.md has no heading [{version.removeprefix('v')}]."]
    problems = []
    if not section.part(changelog.BY_HAND):
        problems.append(
            f"CHANGELOG.md, [{section.version}]: “### By hand” is missing or empty. Write what a project's owner must "
            "do, or “- Nothing.”"
        )
    if not section.text.startswith(f"### {changelog.BY_HAND}"):
        problems.append(f"CHANGELOG.md, [{section.version}]: “### By hand” has to stand first.")
    if not re.search(rf"^## \[{re.escape(section.version)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE):
        problems.append(f"CHANGELOG.md, [{section.version}]: the heading lacks its date, as in “- 2026-11-25”.")
    if any(each.version == changelog.UNRELEASED and each.text.strip() for each in found):
        problems.append(f"CHANGELOG.md: entries are left under [Unreleased]. Move them to [{section.version}].")
    return problems


def git(*arguments: str) -> str:
    """Run Git in this repository and return what it printed."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def candidate() -> Candidate:
    """Describe the commit that is checked out; writes the golden projects anew."""
    subprocess.run([sys.executable, "-m", "tests.golden"], cwd=ROOT, check=True, capture_output=True)
    here = set(git("tag", "--points-at", "HEAD").split())
    return Candidate(
        subject=git("log", "-1", "--format=%s").strip(),
        # A run that is repeated after its tag was made finds it here.
        tags=[tag for tag in git("tag", "--list", "v*").split() if tag not in here],
        changelog=(ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        migrations=list(migrate.releases()),
        stale=[line[3:] for line in git("status", "--porcelain", "--", "tests/golden").splitlines()],
    )


def main() -> int:
    """Check the commit that is checked out, or print the notes of a release."""
    parser = argparse.ArgumentParser(
        prog="release.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notes", metavar="VERSION", help="print the notes of vX.Y.Z and check nothing")
    given = parser.parse_args()
    if given.notes:
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        notes = [each.text for each in changelog.sections(text) if f"v{each.version}" == given.notes]
        if not notes:
            print(f"release: CHANGELOG.md has no heading for {given.notes}", file=sys.stderr)
            return 1
        print(notes[0], end="")
        return 0
    release = candidate()
    found = problems(release)
    for problem in found:
        print(f"release: {problem}", file=sys.stderr)
    if not found:
        print(version_of(release.subject))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
