"""Figures of a run of the live tests: printed at its end; those of a full run are recorded in ``docs/measured.md``."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.shell import run

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "measured.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


@dataclass
class Figures:
    """What was measured, in the order of the tests."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, figure: str) -> None:
        """Note one figure."""
        self.rows.append((what, figure))

    def publish(self) -> None:
        """Print them; with FULL=1 put them into the document."""
        for what, figure in self.rows:
            print(f"lab: {what}: {figure}")
        if not self.rows or not os.environ.get("FULL"):
            return
        commit = run("git", "rev-parse", "--short", "HEAD", cwd=DOCUMENT.parent).stdout.strip()
        where = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
        lines = [f"Commit {commit}, {time.strftime('%Y-%m-%d', time.gmtime())}, {where}.", ""]
        lines += ["| what | figure |", "| --- | --- |", *(f"| {what} | {figure} |" for what, figure in self.rows)]
        text = DOCUMENT.read_text(encoding="utf-8")
        before, after = text.partition(BEGIN)[0], text.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")
