"""A real registry on a loopback port, so that images have digests and can be pulled by them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.place import PREFIX, free_port
from tests.lab.shell import LabError, run, tail

START_SECONDS = 20


@dataclass(frozen=True)
class Registry:
    """A running registry; it stands where a project has GHCR."""

    host: str
    pid: int
    store: Path

    @property
    def port(self) -> int:
        """Its port on this machine."""
        return int(self.host.rpartition(":")[2])

    @contextmanager
    def also_at(self, address: str) -> Iterator[None]:
        """The same store on the same port of another address of this machine, for hosts that cannot reach loopback."""
        with _serving(address, self.port, self.store):
            yield

    def push(self, image: str, name: str | None = None, tag: str = "latest") -> str:
        """Push a local image (as ``name``) and return the reference that names it by digest."""
        repository = f"{self.host}/{name or image.split(':')[0]}"
        run("docker", "tag", image, f"{repository}:{tag}")
        run("docker", "push", f"{repository}:{tag}")
        digests: list[str] = json.loads(
            run("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", f"{repository}:{tag}").stdout
        )
        return next(reference for reference in digests if reference.startswith(f"{repository}@"))


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry with an empty store, for as long as the block lasts."""
    if shutil.which("docker-registry") is None:
        raise LabError("docker-registry is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}registry-") as folder:
        store = Path(folder, "store")
        with _serving("127.0.0.1", port, store) as pid:
            yield Registry(host=f"localhost:{port}", pid=pid, store=store)


@contextmanager
def _serving(address: str, port: int, store: Path) -> Iterator[int]:
    settings, log = store.parent / f"{address}.yml", store.parent / f"{address}.log"
    settings.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {store}}}\n"
        f"  delete: {{enabled: true}}\nhttp: {{addr: '{address}:{port}'}}\n"
    )
    with log.open("w") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(settings)],
            env={name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait(address, port, process, log)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}/v2/", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise LabError(f"the registry does not answer:\n{tail(log.read_text())}")
