"""Golden projects: what the template renders, so that a reviewer of a change sees what changes for its users.

`make golden` writes them anew; `test_golden.py` keeps them true.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests import profiles, rendering

FOLDER = Path(__file__).parent

# Between them they hold every file that the template can generate.
NAMES = ("default", "everything", "minimal")

# Where and from which commit a project was made differs from machine to machine.
_MACHINE = re.compile(r"^_(commit|src_path): .*\n", re.MULTILINE)


def render(source: Path, name: str, destination: Path) -> Path:
    """Render a golden project into an empty folder outside of any repository."""
    rendering.render(source, destination, profiles.PROFILES[name])
    forget_origin(destination)
    return destination


def forget_origin(project: Path) -> None:
    """Take out of a project where it was made from."""
    answers = project / ".copier-answers.yml"
    answers.write_text(_MACHINE.sub("", answers.read_text(encoding="utf-8")), encoding="utf-8")
