"""Running commands: one way to do it, errors that show what was said, and progress for what takes long."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

TAIL_LINES = 40


class LabError(Exception):
    """Something in the laboratory did not work; the text says what, with the end of its output."""


def say(text: str) -> None:
    """One line of progress, seen at once."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step, and how long it took."""
    say(f"{text} …")
    began = time.monotonic()
    yield
    say(f"{text}: {time.monotonic() - began:.1f} s")


def tail(text: str) -> str:
    """The last lines of a long output."""
    return "\n".join(text.strip().splitlines()[-TAIL_LINES:])


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with ``check``, a failure raises and shows the end of what it printed."""
    words: Sequence[str] = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as missing:
        raise LabError(f"{words[0]} is not installed ({missing.strerror})") from missing
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{shlex.join(words)}: not finished after {timeout:.0f} s") from late
    if check and done.returncode != 0:
        raise LabError(f"{shlex.join(words)}: exit {done.returncode}\n{tail(done.stdout + done.stderr)}")
    return done


def clean_environment(**extra: str) -> dict[str, str]:
    """What a server's shell has, and nothing of the test run's: PATH, HOME and how to reach Docker."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or name.startswith("DOCKER_")}
    return kept | extra
