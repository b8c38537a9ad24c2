"""``make lab``: a staging and a production VPS with a generated project deployed, until ``make lab-down``.

One process holds everything and takes it down when it is told to end, so that a killed shell leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests import profiles, rendering
from tests.lab import engine, images
from tests.lab.hosts import internet
from tests.lab.place import lab_dir
from tests.lab.registry import registry
from tests.lab.shell import LabError, say, step, tail
from tests.lab.vps import Repository, Vps

DOMAIN = "shop.localhost"  # names below localhost get certificates of Caddy's own authority
READY_SECONDS = 1200
DOWN_SECONDS = 120


def _folder() -> Path:
    return lab_dir() / "lab"


def holder() -> int | None:
    """The process that holds the laboratory's servers, if there is one."""
    try:
        pid = int((_folder() / "pid").read_text(encoding="utf-8"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"tests.lab" in words and b"hold" in words else None


def up() -> None:
    """Bring a staging and a production server up with a project deployed, and say how to reach them."""
    told = _folder() / "told"
    if not holder():
        shutil.rmtree(_folder(), ignore_errors=True)
        _folder().mkdir()
        with (_folder() / "log").open("w") as log:
            command = [sys.executable, "-m", "tests.lab", "hold"]
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=rendering.ROOT, start_new_session=True
            )
        (_folder() / "pid").write_text(str(started.pid), encoding="utf-8")
        _follow(started, told)
    print(told.read_text(encoding="utf-8"), end="")


def _follow(started: subprocess.Popen[bytes], told: Path) -> None:
    log, shown, until = _folder() / "log", 0, time.monotonic() + READY_SECONDS
    try:
        while not told.exists():
            text = log.read_text(encoding="utf-8")
            print(text[shown:], end="", file=sys.stderr, flush=True)
            shown = len(text)
            if started.poll() is not None or time.monotonic() > until:
                raise LabError(f"the servers did not come up:\n{tail(text)}")
            time.sleep(0.3)
    except BaseException:  # Ctrl-C too: a laboratory that is half there is of no use
        started.terminate()
        started.wait(timeout=DOWN_SECONDS)
        raise


def down() -> None:
    """Take them down again, with everything that belongs to them."""
    pid = holder()
    if not pid:
        print("the laboratory has no servers running")
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + DOWN_SECONDS
    while holder() and time.monotonic() < until:
        time.sleep(0.2)
    if holder():
        raise LabError(f"process {pid} does not end; python -m tests.lab sweep removes what it holds")
    shutil.rmtree(_folder(), ignore_errors=True)
    print("removed")


def hold() -> None:
    """Make the servers and keep them until SIGTERM (what ``make lab`` runs in the background)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as held, suppress(KeyboardInterrupt):
        held.enter_context(engine.use())
        store = held.enter_context(registry())
        network = held.enter_context(internet(store))
        answers = {
            **profiles.REQUIRED,
            "production_domain": DOMAIN,
            "admin_networks": f"{network.gateway}/32",
            "delivery": "self_hosted_runner",
            "image_repository": f"{store.host}/shop",
        }
        with step("generating a project"):
            source = rendering.copy_template(_folder() / "template")
            project = rendering.render(source, _folder() / "shop", answers)
        wanted = {
            "API_IMAGE": "api",
            "WORKER_IMAGE": "worker",
            "WEB_IMAGE": "web",
            "POSTGRES_IMAGE": "postgres:18",
            "CADDY_IMAGE": "caddy",
            "RESTIC_IMAGE": "restic:0.18",
        }
        pushed = {
            variable: store.push(images.ensure(name), f"shop/{variable.lower()}", "1")
            for variable, name in wanted.items()
        }
        repository = Repository.of(project, pushed)
        servers = []
        for environment in ("staging", "production"):
            server = Vps(network.host(environment, registry=store), repository, environment)
            with step(f"provisioning {environment} by the runbook"):
                server.provision()
            servers.append(server)
        release = repository.pack()
        for server in servers:
            with step(f"deploying to {server.environment}"):
                server.deploy(release)
                server.smoke()
        fresh = _folder() / "told.new"
        fresh.write_text(_how_to(servers), encoding="utf-8")
        fresh.rename(_folder() / "told")
        say("ready")
        while True:
            signal.pause()


def _how_to(servers: list[Vps]) -> str:
    first = servers[0]
    lines = [f"cd {first.repository.path}"]
    lines += [f"export {server.environment.upper()}_SSH=deploy@{server.host.address}" for server in servers]
    lines.append(f"export SSH_KEY_FILE={first.host.pipeline_key} CURL_HOME={_curl_home(servers)}")
    names = [f"  https://{name}" for server in servers for name in server.names.values()]
    admin = [
        f"  ssh -i {server.host.key} -o UserKnownHostsFile={server.host.known_hosts} admin@{server.host.address}"
        f"  # {server.environment}"
        for server in servers
    ]
    return "\n".join(
        [
            "",
            "The servers run; curl finds them after the first four lines:",
            *names,
            "",
            *(f"  {line}" for line in lines),
            "  infra/bin/smoke staging",
            "  infra/bin/remote staging status",
            f"  curl -i https://{first.names['api']}/health",
            "",
            *admin,
            "",
            "make lab-down removes them.",
            "",
        ]
    )


def _curl_home(servers: list[Vps]) -> Path:
    """Both servers' names and authorities in one folder for CURL_HOME."""
    folder = _folder() / "curl"
    folder.mkdir()
    authorities = folder / "authorities.crt"
    authorities.write_text("".join(server.authority().read_text(encoding="utf-8") for server in servers))
    lines = [line for server in servers for line in server.curl_names()]
    (folder / ".curlrc").write_text("\n".join([*lines, f'cacert = "{authorities}"', ""]), encoding="utf-8")
    return folder
