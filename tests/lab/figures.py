"""Figures of a run of the live tests: printed at its end; those of a full run are recorded in ``docs/measured.md``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.place import locked
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
        when = time.strftime("%Y-%m-%d", time.gmtime())
        with locked("figures"):  # tests run side by side
            text = DOCUMENT.read_text(encoding="utf-8")
            before, rest = text.split(BEGIN)
            table, after = rest.split(END)
            rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[3:] if line}
            rows |= {what: f"| {what} | {figure} | {commit}, {when} |" for what, figure in self.rows}
            lines = ["| what | figure | commit, date |", "| --- | --- | --- |", *rows.values()]
            DOCUMENT.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}", encoding="utf-8")
