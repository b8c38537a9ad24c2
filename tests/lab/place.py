"""Where the laboratory keeps its things on this machine, and the locks that let several test runs share them."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PREFIX = "slipway-lab-"


def lab_dir() -> Path:
    """The laboratory's own folder, outside the repository: $SLIPWAY_LAB_DIR or ~/.cache/slipway-lab."""
    folder = Path(os.environ.get("SLIPWAY_LAB_DIR") or Path.home() / ".cache" / "slipway-lab").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock_file(name: str) -> IO[str]:
    """An open lock file; the kernel lets go of the lock when its holder dies."""
    return (lab_dir() / f"{name}.lock").open("a")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the laboratory alone, waiting for it if need be."""
    with lock_file(name) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
