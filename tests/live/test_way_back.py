"""Whoever locks himself out while following the runbook comes in again: its timers take back what did it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.docs import reading
from tests.lab import hosts
from tests.lab.shell import run
from tests.lab.vps import RUNBOOK, Repository, Vps

pytestmark = pytest.mark.live

SOON = 12  # seconds, instead of the runbook's minutes


@pytest.fixture(scope="module")
def server(engine: None, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vps]:  # noqa: ARG001
    """A new server and a project with two mistakes: sshd lets nobody in, and the admin networks are somebody else's."""
    with hosts.internet() as net:
        answers = {**profiles.REQUIRED, "admin_networks": "203.0.113.7/32", "delivery": "self_hosted_runner"}
        project = rendering.render(source, tmp_path_factory.mktemp("project") / "shop", answers)
        sshd = project / "infra/server/sshd.conf"
        sshd.write_text(sshd.read_text(encoding="utf-8").replace("AllowUsers admin deploy", "AllowUsers nobody"))
        yield Vps(net.host("new"), Repository.of(project, {}), "staging")


@pytest.fixture(scope="module")
def paste(server: Vps) -> Callable[[str], None]:
    """`paste(WORDS)`: the one block of the runbook, for root or the machine, that has these words."""

    def one(words: str) -> None:
        found = [block for block in reading.blocks(server.repository.path / RUNBOOK) if words in block.code]
        assert len(found) == 1, words
        code = re.sub(r"--on-active=\d+min", f"--on-active={SOON}s", found[0].code)
        server.paste(replace(found[0], code=code))

    return one


def comes_in(server: Vps) -> bool:
    ssh = server.host.ssh_command("root")
    return (
        run(ssh[0], "-o", "ConnectTimeout=2", "-o", "ConnectionAttempts=1", *ssh[1:], "true", check=False).returncode
        == 0
    )


def wait_for_the_timer(server: Vps, unit: str) -> None:
    """Without knocking: who fails too often is shut out, and this administrator's network is not named."""
    until = time.monotonic() + 60
    while server.host.console("systemctl", "is-active", f"{unit}.timer", check=False).strip() == "active":
        assert time.monotonic() < until, f"{unit} never ran"
        time.sleep(1)
    time.sleep(3)  # its service, and sshd that reads its configuration


@pytest.mark.parametrize(
    ("before", "unit", "gone"),
    [
        (("tar -C infra", "jail.local", "visudo"), "undo-sshd", "test ! -e /etc/ssh/sshd_config.d/10-slipway.conf"),
        ((), "undo-firewall", "! nft list table inet host"),
    ],
)
def test_what_locks_out_is_taken_back(
    server: Vps, paste: Callable[[str], None], before: tuple[str, ...], unit: str, gone: str
) -> None:
    for each in before:
        paste(each)
    assert comes_in(server)
    paste(f"--unit={unit}")
    assert not comes_in(server)
    wait_for_the_timer(server, unit)
    assert comes_in(server)
    server.host.ssh("root", gone)
