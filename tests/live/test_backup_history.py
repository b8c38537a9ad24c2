"""infra/bin/backup-history and who asks for it: what is shown, and when it fails."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.server import Server, environment_of

pytestmark = pytest.mark.live


@pytest.fixture
def server(engine: None, render: Callable[[Mapping[str, Any]], Path]) -> Iterator[Server]:  # noqa: ARG001
    """A server whose release was unpacked, and no more: nothing of this needs a container."""
    project = render({})
    with Server(project, {}, environment_of(project)) as here:
        here.release("first")
        here.run("ln", "-s", "releases/first", "current")
        here.run("install", "-D", "-m", "755", "current/infra/bin/entry", "bin/entry")
        here.run("install", "-m", "600", "/dev/null", "backup.env")
        yield here


def line(what: str, result: str, **ago: float) -> str:
    """A line as the scripts write it."""
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**ago)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}\t{what}\t{result}\t4f2a\t52428800\t7.5\tto the storage box\n"


def asked(server: Server, *lines: str) -> tuple[int, str]:
    """What the entry point says of these lines."""
    server.run("sh", "-c", "cat > state/backups", stdin="".join(lines))
    told = server.run("bin/entry", "backups", check=False)
    return told.returncode, told.stdout + told.stderr


def test_the_history_is_shown_and_fails_when_the_last_good_ones_are_too_old(server: Server) -> None:
    drill = line("drill", "ok", days=91)
    code, text = asked(server, drill, line("backup", "ok", days=3), line("backup", "ok", hours=20))
    assert code == 0
    assert text.count("backup   ok           50.0 MB      7.5 s  4f2a  to the storage box") == 2
    assert "drill" not in text  # it was longer ago than what is shown

    code, text = asked(server, drill, line("backup", "ok", hours=27), line("backup", "failed", hours=1))
    assert code == 1
    assert "!! no backup was made and read back in time: the last one is of 20" in text
    assert text.splitlines()[-1].count("Z") == 1
    server.run("sh", "-c", "echo BACKUP_MAX_AGE_HOURS=48 > backup.env")
    assert asked(server, drill, line("backup", "ok", hours=27))[0] == 0

    code, text = asked(server, line("drill", "ok", days=93), line("backup", "ok", hours=1))
    assert code == 1
    assert "!! no restore was rehearsed within a quarter" in text


def test_one_that_was_just_set_up_has_time_and_one_that_never_was_fails(server: Server) -> None:
    assert asked(server) == (0, "")
    server.run("touch", "--date", "27 hours ago", "backup.env")
    code, text = asked(server)
    assert (code, text) == (1, "!! no backup was made and read back in time: there is none\n")
    server.run("rm", "backup.env")
    code, text = asked(server)
    assert code == 1
    assert "backup.env is missing" in text


def test_a_project_without_backups_of_its_own_says_so(server: Server) -> None:
    server.run("rm", "current/infra/bin/backup-history")
    code, text = asked(server)
    assert code == 2
    assert "no backups of its own" in text
