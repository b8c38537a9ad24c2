"""Show what differs in generated projects between two revisions of the template (`make diff`)."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests import profiles, rendering
from tests.review import comparison, page, revisions, text

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = rendering.ROOT / ".cache" / "diff.html"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="make diff",
        description=f"{__doc__} The exit code is 0 whether or not anything differs.",
    )
    parser.add_argument(
        "--base", default="", metavar="REVISION", help="compare with this (default: the newest release)"
    )
    parser.add_argument("--head", default="", metavar="REVISION", help="compare this (default: the working tree)")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="where the HTML page goes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write a summary for a pull request")
    parser.add_argument("--quiet", action="store_true", help="print no diffs, only the summary and the files")
    parser.add_argument(
        "--profile", action="append", choices=profiles.PROFILES, help="render this one only; can be repeated"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print and write; return the exit code."""
    options = arguments(argv)
    chosen = {name: profiles.PROFILES[name] for name in options.profile or profiles.PROFILES}
    try:
        head = revisions.resolve(options.head) if options.head else revisions.Revision(revisions.WORKING_TREE)
        base = revisions.resolve(options.base) if options.base else revisions.newest_release(head)
        with tempfile.TemporaryDirectory(prefix="slipway-diff-") as name:
            folder = Path(name)
            print(f"{text.title(base, head)}: rendering {text.plural(len(chosen), 'profile')} twice", file=sys.stderr)
            sources = {
                revision: revisions.template(revision, folder / f"template-{number}")
                for number, revision in enumerate({base: None, head: None})
            }
            projects = revisions.render_all(sources, folder, chosen)
            found = comparison.compare(
                {name: project.folder for name, project in projects[base].items()},
                {name: project.folder for name, project in projects[head].items()},
            )
    except revisions.ReviewError as error:
        print(f"diff: {error}", file=sys.stderr)
        return 1
    notes = [note for revision in projects for note in text.left_out(revision, projects[revision])]
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page.write(base, head, found, notes), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(text.markdown(base, head, found, notes), encoding="utf-8")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(text.terminal(base, head, found, notes, colour=colour, diffs=not options.quiet), end="")
    print(f"page: {options.page}", file=sys.stderr)
    return 0


def stop(number: int, _: object) -> None:
    """End in order, so that what is temporary is removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read has seen enough (`make diff | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
