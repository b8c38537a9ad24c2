"""Ansible makes a server of a bare Debian 13 and 12: what it leaves, what it refuses, and that nobody is locked out."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import profiles, rendering
from tests.lab import audit, hosts, images
from tests.lab.ansible import Playbook, Run
from tests.lab.registry import Registry
from tests.lab.shell import run
from tests.lab.vps import Repository, Vps

pytestmark = pytest.mark.live

SUITES = {"staging": "trixie", "production": "bookworm"}
SERVICES = ["docker", "fail2ban", "nftables", "ssh", "unattended-upgrades"]
TIMERS = ["harbour-shop-backup.timer", "harbour-shop-restore-drill.timer", "server-alarms.timer"]
UNDO_SECONDS = 60


@pytest.fixture(scope="module")
def internet(registry: Registry) -> Iterator[hosts.Internet]:
    """The network between the servers and this machine as their administrator."""
    with hosts.internet(registry) as made:
        yield made


@pytest.fixture(scope="module")
def repository(
    source: Path, registry: Registry, internet: hosts.Internet, tmp_path_factory: pytest.TempPathFactory
) -> Repository:
    """A project that provisions with Ansible, in Git; its admin networks are this machine's addresses."""
    answers = {
        **profiles.REQUIRED,
        "production_domain": "shop.localhost",  # names that need no authority
        "provisioning": "ansible",
        "admin_networks": internet.admin_networks,
        "delivery": "self_hosted_runner",
        "image_repository": f"{registry.host}/shop",
        "worker": False,
    }
    project = rendering.render(source, tmp_path_factory.mktemp("project") / "shop", answers)
    names = {"API_IMAGE": "api", "WEB_IMAGE": "web", "POSTGRES_IMAGE": "postgres:18", "CADDY_IMAGE": "caddy"}
    pushed = {
        variable: registry.push(images.ensure(name), f"shop/{name.replace(':', '-')}", "1")
        for variable, name in names.items()
    }
    return Repository.of(project, pushed)


def other_source() -> dict[str, Any]:
    """What stands for Docker's own packages on Debian 12: its engine, with Debian 13's Compose."""
    return {
        "docker_repository_uri": images.debian_mirror(),
        "docker_repository_suite": "trixie",
        "docker_repository_component": "main",
        "docker_repository_pin": "release n=trixie",
        "docker_repository_key": "file:///usr/share/keyrings/debian-archive-trixie-automatic.gpg",
        "docker_repository_fingerprint": "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
        "docker_repository_packages": ["docker-compose"],
        "docker_packages": ["docker.io", "docker-compose"],
    }


@pytest.fixture(scope="module")
def bare(internet: hosts.Internet, registry: Registry, repository: Repository) -> dict[str, Playbook]:
    """A playbook for each server, which is as its provider has handed it over."""
    made = {}
    for environment, suite in SUITES.items():
        host = internet.host(environment, registry=registry, image=f"vps-bare:{suite}")
        values = other_source() if suite == "bookworm" else {}
        made[environment] = Playbook(repository, host, environment, values)
        made[environment].settle()
    return made


def both(playbooks: dict[str, Playbook], action: Callable[[Playbook], Run]) -> dict[str, Run]:
    """Do the same on both servers at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(playbooks, pool.map(action, playbooks.values()), strict=True))


@pytest.fixture(scope="module")
def converged(bare: dict[str, Playbook]) -> dict[str, Playbook]:
    """Both servers after a first run, which comes in as root."""
    both(bare, lambda playbook: playbook.run("-u", "root", "-e", f"env_file={playbook.env_file()}"))
    return bare


def rules(playbook: Playbook, folder: Path, *lines: str) -> Path:
    """The project's firewall with other lines at the begin of its chain `input`, or with no way in for SSH."""
    text = (playbook.repository.path / "infra/server/nftables.conf").read_text(encoding="utf-8")
    head = "policy drop;\n    iif"
    assert head in text
    path = folder / "nftables.conf"
    path.write_text(text.replace(head, "policy drop;\n" + "".join(lines) + "    iif", 1), encoding="utf-8")
    return path


def files(playbook: Playbook, folder: Path, name: str, change: Callable[[str], str]) -> Path:
    """The files that every server gets, with one of them changed."""
    copy = folder / "server"
    shutil.copytree(playbook.repository.path / "infra/server", copy)
    path = copy / name
    before = path.read_text(encoding="utf-8")
    path.write_text(change(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    return copy


def may_come_in(playbook: Playbook, user: str = "admin") -> bool:
    """Whether the administrator's key opens a new connection."""
    words = playbook.host.ssh_command(user)
    return run(words[0], "-o", "ConnectionAttempts=1", *words[1:], "true", check=False).returncode == 0


def wait_until_in(playbook: Playbook, seconds: float = UNDO_SECONDS + 30) -> None:
    """Wait for the way back."""
    until = time.monotonic() + seconds
    while not may_come_in(playbook):
        assert time.monotonic() < until, playbook.host.console("systemctl", "list-timers", "--all", check=False)
        time.sleep(1)


def test_a_wrong_admin_network_is_refused_before_anything_is_changed(bare: dict[str, Playbook], tmp_path: Path) -> None:
    playbook = bare["staging"]
    text = (playbook.repository.path / "infra/server/nftables.conf").read_text(encoding="utf-8")
    wrong = tmp_path / "nftables.conf"
    wrong.write_text(re.sub(r"ip saddr \{[^}]*\} tcp", "ip saddr { 198.51.100.7/32 } tcp", text), encoding="utf-8")
    told = playbook.run("-u", "root", "-e", f"firewall_rules={wrong}", check=False)
    assert told.code != 0
    assert "Refused, nothing was changed: this connection comes from" in told.sentence
    assert told.counts["changed"] == 0
    assert "no such user" in playbook.host.console("id", "admin", check=False)


def test_check_mode_says_on_a_bare_server_what_would_happen_and_does_nothing(bare: dict[str, Playbook]) -> None:
    playbook = bare["staging"]
    told = playbook.run("-u", "root", "--check", "--diff")
    assert told.counts["changed"] > 20
    assert "no such user" in playbook.host.console("id", "admin", check=False)
    assert playbook.host.console("sh", "-c", "command -v dockerd nft; ls /opt", check=False) == ""


def test_a_second_run_changes_nothing(converged: dict[str, Playbook]) -> None:
    for environment, told in both(converged, Playbook.run).items():
        assert told.counts["changed"] == 0, f"{environment}\n{told.output}"


@pytest.mark.full  # a second run and check mode on a bare server show both halves of it
def test_check_mode_finds_nothing_to_do_afterwards(converged: dict[str, Playbook]) -> None:
    told = converged["staging"].run("--check", "--diff")
    assert told.counts["changed"] == 0, told.output
    assert "+++" not in told.output


@pytest.mark.parametrize("environment", SUITES)
def test_everything_is_back_after_a_reboot_and_a_release_arrives(
    converged: dict[str, Playbook], repository: Repository, environment: str
) -> None:
    playbook = converged[environment]
    host, server = playbook.host, playbook.server()
    host.reboot()
    assert host.console("systemctl", "is-active", *SERVICES, *TIMERS).split() == ["active"] * 8
    assert host.console("systemctl", "--failed", "--quiet") == ""
    assert "tcp dport 22 accept" in host.console("nft", "list", "table", "inet", "host")
    assert host.console("fail2ban-client", "get", "sshd", "ignoreip").count("10.") >= 1
    assert host.console("stat", "--format=%a %U", f"{server.folder}/.env").split() == ["600", "deploy"]
    release = repository.pack()
    told = server.deploy(release)
    assert f"Release {release.name} serves" in told.stdout
    assert server.live()["RELEASE"] == release.name
    assert server.smoke().stdout.count("ok") == 2


def test_the_server_is_the_same_as_one_that_the_runbook_made(
    converged: dict[str, Playbook], internet: hosts.Internet, registry: Registry, repository: Repository
) -> None:
    by_hand = Vps(internet.host("by-hand", registry=registry, image="vps-bare:trixie"), repository, "staging")
    by_hand.provision()
    playbook = converged["staging"]
    assert audit.differences(audit.facts_of(playbook.host), audit.facts_of(by_hand.host)) == []


@pytest.mark.parametrize("environment", SUITES)
def test_nobody_comes_in_as_root_or_without_a_key(converged: dict[str, Playbook], environment: str) -> None:
    playbook = converged[environment]
    assert not may_come_in(playbook, "root")
    ssh = playbook.host.ssh_command("admin")
    told = run(ssh[0], "-o", "PubkeyAuthentication=no", *ssh[1:], "true", check=False)
    assert "Permission denied (publickey)" in told.stderr
    assert playbook.host.console("passwd", "--status", "root").split()[1] == "L"
    groups = playbook.host.console("id", "--name", "--groups", "admin", "--", check=False)
    assert "docker" not in groups
    assert playbook.host.ssh("deploy", "sudo -n true", check=False).returncode != 0
    assert playbook.host.ssh("deploy", "docker ps").returncode == 0


@pytest.mark.parametrize("environment", SUITES)
def test_security_updates_come_by_themselves(converged: dict[str, Playbook], environment: str) -> None:
    host = converged[environment].host
    settings = host.console("apt-config", "dump", "APT::Periodic::Unattended-Upgrade")
    assert settings.strip() == 'APT::Periodic::Unattended-Upgrade "1";'
    told = host.console("unattended-upgrade", "--dry-run", "--verbose", check=False)
    assert re.search(r"Allowed origins are: .*label=Debian-Security", told), told
    assert host.console("systemctl", "is-enabled", "unattended-upgrades").strip() == "enabled"
    # The timers that run it: the laboratory's images mask them, so that they do not run in the middle of a test.
    assert "apt-daily-upgrade.timer" in host.console("dpkg", "--listfiles", "apt")


def test_an_env_that_is_there_is_never_touched(converged: dict[str, Playbook], tmp_path: Path) -> None:
    playbook = converged["staging"]
    path = f"{playbook.server().folder}/.env"
    before = playbook.host.console("sha256sum", path)
    other = tmp_path / "other.env"
    other.write_text("POSTGRES_PASSWORD=another-one\n", encoding="utf-8")
    told = playbook.run("--tags", "app", "-e", f"env_file={other}")
    assert told.counts["changed"] == 0
    assert playbook.host.console("sha256sum", path) == before
    assert "another-one" not in told.output


def test_rules_that_lock_everybody_out_are_taken_back(converged: dict[str, Playbook], tmp_path: Path) -> None:
    playbook = converged["staging"]
    # What the playbook reads looks fine; a line before it closes the port.
    wrong = rules(playbook, tmp_path, "    tcp dport 22 drop\n")
    told = playbook.run(
        *("--tags", "firewall", "-e", f"firewall_rules={wrong}", "-e", f"undo_seconds={UNDO_SECONDS}"), check=False
    )
    assert told.code != 0
    wait_until_in(playbook)
    now = playbook.host.console("nft", "list", "table", "inet", "host")
    assert "tcp dport 22 drop" not in now
    assert "tcp dport 22 accept" in now  # the rules from before, not none
    assert "tcp dport 22 drop" not in playbook.host.console("cat", "/etc/nftables.conf")
    assert playbook.run("--tags", "firewall").code == 0


# The way back of a wrong sshd is tried by test_way_back.py as well.
@pytest.mark.parametrize("fault", [pytest.param("sshd", marks=pytest.mark.full), "keys"])
def test_access_that_locks_everybody_out_is_taken_back(
    converged: dict[str, Playbook], tmp_path: Path, fault: str
) -> None:
    playbook = converged["staging"]
    if fault == "sshd":
        wrong = files(playbook, tmp_path, "sshd.conf", lambda text: text.replace("AllowUsers admin", "AllowUsers adm"))
        words = ["-e", f"server_files={wrong}", "-e", f"firewall_rules={wrong}/nftables.conf"]
    else:
        stranger = hosts.new_key(tmp_path / "stranger").with_suffix(".pub").read_text(encoding="utf-8").strip()
        words = ["-e", f'{{"admin_keys": ["{stranger}"]}}']
    told = playbook.run("--tags", "access", *words, "-e", f"undo_seconds={UNDO_SECONDS}", check=False)
    assert told.code != 0
    assert "No new connection as admin gets through" in told.sentence
    assert not may_come_in(playbook)
    wait_until_in(playbook)
    assert playbook.run("--tags", "access").counts["changed"] == 0


def test_a_key_with_another_fingerprint_installs_nothing(converged: dict[str, Playbook]) -> None:
    playbook = converged["production"]
    told = playbook.run("--tags", "docker", "-e", f"docker_repository_fingerprint={'0' * 40}", check=False)
    assert told.code != 0
    assert "does not have the fingerprint" in told.sentence
    assert "0000" not in playbook.host.console("sh", "-c", "ls /etc/apt/keyrings; cat /etc/apt/sources.list.d/docker*")


def test_nothing_but_docker_is_taken_from_its_source(converged: dict[str, Playbook]) -> None:
    host = converged["production"].host
    offered = host.console("sh", "-c", "apt-get --simulate full-upgrade | grep ^Inst || true")
    assert "trixie" not in offered
    assert host.console("sh", "-c", ". /etc/os-release && echo $VERSION_CODENAME").strip() == "bookworm"
    assert re.search(r"^Compose version v?2\.", host.console("docker", "compose", "version").replace("Docker ", ""))
