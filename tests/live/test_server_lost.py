"""The production server is deleted with its disk: from an empty one to serving again, by the runbook, line by line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.docs import reading
from tests.lab import backups, hosts
from tests.lab.client import fetch
from tests.lab.figures import Figures
from tests.lab.registry import Registry
from tests.lab.shell import clean_environment, run
from tests.lab.vps import Repository, Vps

pytestmark = pytest.mark.live

RUNBOOK = "docs/runbooks/replace-lost-server.md"


def set_up_backups(server: Vps, target: backups.Target, password: str = "") -> str:
    """Fill in backup.env as the runbooks say, let the new key in, and make or find the repository; the password."""
    there = server.there
    example = "current" if not password else "releases/recovery"
    there(f"test -e backup.env || install -m 600 {example}/infra/backup.env.example backup.env")
    for name, value in (("BACKUP_SSH", target.ssh), ("BACKUP_PASSWORD", password)):
        there(f"sed -i 's/^{name}=.*/{name}={value}/' backup.env")
    shown = there(f"{example}/infra/bin/backup --setup", check=False)
    line = re.search(r"(?m)^restrict,.*", shown)
    assert line, shown
    target.authorise(line[0])
    found = re.search(r"(?m)^    ([0-9a-f]{64})$", shown)
    return found[1] if found else password


def test_a_lost_server_is_replaced_by_the_runbook(
    source: Path, registry: Registry, pushed: Callable[..., str], tmp_path: Path, figures: Figures
) -> None:
    with hosts.internet(registry) as internet, backups.target(internet, app="harbour-shop") as target:
        answers = {
            **profiles.REQUIRED,
            "production_domain": "shop.localhost",
            "admin_networks": f"{internet.gateway}/32",
            "delivery": "self_hosted_runner",
            "image_repository": f"{registry.host}/shop",
        }
        project = rendering.render(source, tmp_path / "shop", answers)
        restic = pushed("restic:0.18")
        images = {
            "API_IMAGE": pushed("api", "1"),
            "WORKER_IMAGE": pushed("worker", "1"),
            "WEB_IMAGE": pushed("web", "1"),
            "POSTGRES_IMAGE": pushed("postgres:18"),
            "CADDY_IMAGE": pushed("caddy"),
            "RESTIC_IMAGE": restic,
        }
        repository = Repository.of(project, images)
        known = project / "infra/custom/known_hosts"
        known.write_text(target.known_hosts, encoding="utf-8")

        lost = Vps(internet.host("production", registry=registry), repository, "production")
        lost.provision()
        lost.deploy(repository.pack())
        lost.query("INSERT INTO items (name) SELECT 'order ' || g FROM generate_series(1, 5000) AS g")
        password = set_up_backups(lost, target)
        lost.there("infra/bin/backup --setup")
        lost.there("infra/bin/backup")
        kept = lost.query("SELECT md5(string_agg(items::text, ',' ORDER BY id)) FROM items")
        settings = lost.there("sha256sum < .env")
        ran = lost.live()
        run("docker", "rm", "--force", "--volumes", lost.host.container.id)

        began = time.monotonic()
        steps: dict[str, float] = {}
        fresh = Vps(internet.host("another", registry=registry), repository, "production")
        fresh.provision(env=False)
        steps["a server, provisioned"] = time.monotonic() - began
        # Stands for the public registry, which is not reached from here.
        pin = repository.fact("RESTIC_IMAGE")
        fresh.there(f"docker pull --quiet {restic} && docker tag {restic} {pin.partition('@')[0]}")
        fresh.env = lost.env
        for block in reading.blocks(project / RUNBOOK):
            began_block = time.monotonic()
            paste(fresh, target, password, block)
            heading = section(project / RUNBOOK, block.line)
            steps[heading] = steps.get(heading, 0) + time.monotonic() - began_block

        assert fresh.live() == ran
        assert fresh.query("SELECT md5(string_agg(items::text, ',' ORDER BY id)) FROM items") == kept
        assert fresh.there("sha256sum < .env") == settings
        assert fetch(fresh.host.address, "/", port=80).status in {200, 301, 308}
        took = time.monotonic() - began
        told = ", ".join(f"{name.lower()} {seconds:.0f} s" for name, seconds in steps.items())
        figures.add(
            "a server deleted with its disk: from nothing to serving again, by the runbook", f"{took:.0f} s: {told}"
        )
        assert took < 600


def paste(server: Vps, target: backups.Target, password: str, block: reading.Block) -> None:
    """Do what a block of the runbook says where it says so."""
    code = block.code
    if "docker login" in code:  # the laboratory's registry asks nobody
        return
    if "nano backup.env" in code:
        server.there(f"cd {server.folder} && " + code.replace("nano backup.env", "true"))
        set_up_backups(server, target, password)
    elif block.place == "machine":
        here = code.replace(f"deploy@{server.names['api']}", f"deploy@{server.host.address}")
        ssh = " ".join(server.host.ssh_command("")[:-1])
        environment = clean_environment()
        if "smoke" in code:
            environment = clean_environment(CURL_HOME=str(server.curl_home()))
        function = f'ssh() {{ command {ssh} "$@"; }}\n'
        run("bash", "-euo", "pipefail", "-c", function + here, cwd=server.repository.path, env=environment)
    else:
        server.there("bash -euo pipefail -s <<'EOF'\n" + code + "\nEOF")


def section(runbook: Path, line: int) -> str:
    """The heading above a line, without its number."""
    before = runbook.read_text(encoding="utf-8").splitlines()[:line]
    return next(text for text in reversed(before) if text.startswith("## ")).lstrip("#0123456789. ")
