"""The lock of the scripts on a server: one at a time, and nobody who is alive is taken for dead."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEGIN = 'set -euo pipefail; cd "$0"; . releases/first/infra/bin/server.sh'
TAKE = 'lock "a test"; echo got'


class App:
    """The folder of an application on a server, and scripts that run there."""

    def __init__(self, folder: Path) -> None:
        """Take a folder with a release in it."""
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, script: str) -> subprocess.Popen[str]:
        """Start a script, and wait until it has the lock."""
        words = ["bash", "-c", f"{BEGIN}; {script}", str(self.folder)]
        running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.started.append(running)
        assert running.stdout
        assert running.stdout.readline() == "got\n"
        return running

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        words = ["bash", "-c", f"{BEGIN}; {script}", str(self.folder)]
        return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def app(rendered: Callable[[str], Path], tmp_path: Path) -> Iterator[App]:
    """An application without any process."""
    shutil.copytree(rendered("minimal") / "infra", tmp_path / "releases/first/infra")
    (tmp_path / "state").mkdir()
    made = App(tmp_path)
    yield made
    for running in made.started:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def test_a_second_one_is_told_who_holds_it(app: App) -> None:
    first = app.start(f"{TAKE}; sleep 60")
    second = app.run(TAKE)
    assert second.returncode == 75
    assert "a test, since 20" in second.stderr
    assert f"is under way (process {first.pid})" in second.stderr
    assert first.poll() is None


def test_one_that_has_not_yet_said_who_it_is_is_not_taken_for_dead(app: App) -> None:
    (app.folder / "state/lock.holder").write_text("1 one that ended long ago\n", encoding="utf-8")
    slowly = 'sleep 0.5; echo "$$ a slow one" >"$state/lock.holder"'
    first = app.start(f'exec {{fd}}>>"$state/lock"; flock "$fd"; echo got; {slowly}; sleep 60')
    second = app.run(TAKE)
    assert second.returncode == 75, second.stdout
    assert "a slow one is under way" in second.stderr
    assert first.poll() is None


def test_what_a_killed_one_has_started_is_ended(app: App) -> None:
    first = app.start('lock "a test"; sleep 61 & echo got; wait')
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = app.run(TAKE)
    assert second.returncode == 0, second.stderr
    assert second.stdout.split("\n")[-2:] == ["got", ""]
    assert "what a killed run left behind is ended first" in second.stdout
    assert first.stdout
    assert first.stdout.read() == ""  # which nobody writes to any more
