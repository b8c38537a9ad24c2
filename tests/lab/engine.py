"""A real Docker engine: the one that runs already, or one of the laboratory's own.

The engine that the laboratory starts keeps its data in the laboratory's folder and listens on Docker's usual socket, so
that ``docker`` in any shell reaches it. Everybody who uses it holds a shared lock; whoever is the last to let go stops
it, unless it was started to stay (``python -m tests.lab up``). Locks are the kernel's: a test run that was killed holds
none, and the engine it left behind is taken over, and stopped, by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.place import lab_dir, lock_file, locked
from tests.lab.shell import LabError, run, say, tail

START_SECONDS = 60
STOP_SECONDS = 40
EXEC_ROOT = Path("/run/slipway-lab-docker")


class EngineMissing(LabError):
    """This machine has no Docker engine and cannot start one; the text is a sentence for the skipped test."""


def answers() -> bool:
    """Whether an engine answers the docker command right now."""
    try:
        return run("docker", "info", "--format", "{{.ServerVersion}}", check=False, timeout=30).returncode == 0
    except LabError:
        return False


def ours() -> int | None:
    """The process id of the engine that the laboratory started, if it still runs."""
    try:
        pid = int(json.loads(_record().read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (OSError, ValueError, KeyError):
        return None
    return pid if f"--data-root={_data_root()}" in command.split("\0") else None


@contextmanager
def use() -> Iterator[None]:
    """An engine for as long as the block lasts; its last user stops it if the laboratory started it for tests."""
    users = lock_file("engine-users")
    with locked("engine"):
        if not answers():
            _start(stay=False)
        fcntl.flock(users, fcntl.LOCK_SH)
    try:
        yield
    finally:
        with locked("engine"):
            users.close()
            if ours() and not _stays() and not _in_use():
                _stop()


def up() -> int | None:
    """Start an engine that stays until ``down``; the process id, or None for one that is not the laboratory's."""
    with locked("engine"):
        if not answers():
            _start(stay=True)
        pid = ours()
        if pid:
            _write_record(pid, stay=True)
        return pid


def down() -> bool:
    """Stop the laboratory's engine, whoever uses it; False when there is none."""
    with locked("engine"):
        if not ours():
            return False
        _stop()
        return True


def _data_root() -> Path:
    return lab_dir() / "docker"


def _record() -> Path:
    return lab_dir() / "engine.json"


def _write_record(pid: int, *, stay: bool) -> None:
    _record().write_text(json.dumps({"pid": pid, "stay": stay}))


def _stays() -> bool:
    return bool(json.loads(_record().read_text())["stay"])


def _in_use() -> bool:
    with lock_file("engine-users") as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _start(*, stay: bool) -> None:
    if shutil.which("docker") is None:
        raise EngineMissing("the docker command is not installed")
    if os.environ.get("DOCKER_HOST"):
        raise EngineMissing("DOCKER_HOST is set, but the engine there does not answer")
    if shutil.which("dockerd") is None:
        raise EngineMissing("no Docker engine runs, and dockerd is not installed")
    if os.geteuid() != 0:
        raise EngineMissing("no Docker engine runs, and only root can start one")
    say("starting dockerd …")
    log = lab_dir() / "dockerd.log"
    with log.open("w") as output:
        options = {"data-root": _data_root(), "exec-root": EXEC_ROOT, "pidfile": lab_dir() / "dockerd.pid"}
        process = subprocess.Popen(
            ["dockerd", "--log-level=warn", *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests; the engine is stopped after their teardown
        )
    _write_record(process.pid, stay=stay)
    began = time.monotonic()
    try:
        while not answers():
            waited = time.monotonic() - began
            if process.poll() is not None:
                raise LabError(f"dockerd ended with {process.returncode}:\n{tail(log.read_text())}")
            if waited > START_SECONDS:
                raise LabError(f"dockerd does not answer after {START_SECONDS} s:\n{tail(log.read_text())}")
            say(f"waiting for dockerd, {waited:.0f} s")
            time.sleep(1)
    except BaseException:
        process.kill()
        process.wait()
        _record().unlink(missing_ok=True)
        raise
    say(f"dockerd {process.pid} answers after {time.monotonic() - began:.1f} s")


def _stop() -> None:
    pid = ours()
    if pid is None:
        return
    say(f"stopping dockerd {pid} …")
    for stop_signal in (signal.SIGTERM, signal.SIGKILL):
        os.kill(pid, stop_signal)
        if _gone(pid, STOP_SECONDS):
            break
    _record().unlink(missing_ok=True)


def _gone(pid: int, seconds: float) -> bool:
    """Wait for a process to end, whether or not it is our child."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if ours() is None:
            return True
        time.sleep(0.2)
    return False
