"""Each backup reads a part of the repository: within two weeks all of it was read, at the turn of a year too."""

from __future__ import annotations

import datetime
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# restic says which part it was asked for.
SCRIPT = """\
. infra/bin/functions
date() { command date --utc --date="@$moment" "$@"; }
restic_or_fail() { printf '%s\\n' "${@: -1}"; }
for moment; do check_part /repository; done
"""


@pytest.mark.parametrize("first", [datetime.date(2026, 6, 1), datetime.date(2026, 12, 20), datetime.date(2028, 2, 20)])
def test_two_weeks_of_backups_read_every_part(
    rendered: Callable[[str], Path], tmp_path: Path, first: datetime.date
) -> None:
    shutil.copytree(rendered("default") / "infra", tmp_path / "infra")
    # The program without its last line, which would run it.
    text = (tmp_path / "infra/bin/backup").read_text(encoding="utf-8").removesuffix('main "$@"\n')
    (tmp_path / "infra/bin/functions").write_text(text, encoding="utf-8")
    half_past_three = datetime.datetime.combine(first, datetime.time(3, 30), datetime.UTC)
    days = [str(int((half_past_three + datetime.timedelta(days=day)).timestamp())) for day in range(14)]
    told = run(["bash", "-c", SCRIPT, "backup", *days], cwd=tmp_path)
    assert sorted(told.stdout.split()) == sorted(f"--read-data-subset={part}/14" for part in range(1, 15))
