"""Whole servers: provisioned by the runbook, reached over SSH alone, looked at from outside, rebooted in mid-deploy."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.lab import hosts
from tests.lab import images as lab_images
from tests.lab.containers import Container
from tests.lab.figures import Figures
from tests.lab.registry import Registry
from tests.lab.shell import run
from tests.lab.traffic import Connection, traffic
from tests.lab.vps import Repository, Vps

pytestmark = pytest.mark.live
FULL = bool(os.environ.get("FULL"))


@pytest.fixture(scope="module")
def pushed(registry: Registry) -> Callable[..., str]:
    """`pushed("api", "2", behaviour="…")`: a build of a stand-in by digest, in the registry."""

    def push(kind: str, version: str = "", **choices: str) -> str:
        local = lab_images.app(kind, version, **choices) if version else lab_images.ensure(kind)
        return registry.push(local, f"shop/{kind.replace(':', '-')}", version or "1")

    return push


@pytest.fixture(scope="module")
def internet(registry: Registry) -> Iterator[hosts.Internet]:
    """The network between the servers, this machine as their administrator, and outsiders."""
    with hosts.internet(registry) as made:
        yield made


@pytest.fixture(scope="module")
def repository(
    source: Path,
    registry: Registry,
    internet: hosts.Internet,
    pushed: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Repository:
    """A project whose admin network is this machine's address, in Git."""
    answers = {
        **profiles.REQUIRED,
        "production_domain": "shop.localhost",  # names that need no authority
        "admin_networks": f"{internet.gateway}/32",
        "delivery": "self_hosted_runner",
        "image_repository": f"{registry.host}/shop",
    }
    project = rendering.render(source, tmp_path_factory.mktemp("project") / "shop", answers)
    images = {
        "API_IMAGE": pushed("api", "1"),
        "WORKER_IMAGE": pushed("worker", "1"),
        "WEB_IMAGE": pushed("web", "1"),
        "POSTGRES_IMAGE": pushed("postgres:18"),
        "CADDY_IMAGE": pushed("caddy"),
    }
    return Repository.of(project, images)


@pytest.fixture(scope="module")
def server(internet: hosts.Internet, registry: Registry, repository: Repository) -> Vps:
    """A server on which a first release was deployed over SSH."""
    made = Vps(internet.host("staging", registry=registry), repository, "staging")
    made.provision()
    made.deploy(repository.pack())
    return made


def ports(scan: str) -> dict[str, str]:
    """What nmap's greppable output says of each port that is not closed or filtered."""
    found = re.findall(r"(\d+)/(open(?:\|filtered)?|filtered)/(tcp|udp)/", scan)
    return {f"{number}/{protocol}": state for number, state, protocol in found}


def audit(outsider: Container, server: Vps) -> dict[str, str]:
    """Every TCP port, and the UDP ports that something in the project might use, as they are seen on the internet."""
    tcp = outsider.exec("nmap", "-Pn", "-n", "-p-", "--min-rate", "5000", "-oG", "-", server.host.address).stdout
    udp = outsider.exec("nmap", "-Pn", "-n", "-sU", "-p", "53,80,443,2019,5432", "-oG", "-", server.host.address).stdout
    reached = {name: state for name, state in ports(tcp).items() if state == "open"}
    # Over UDP silence may be an answer: what a firewall drops and what listens look the same to nmap.
    return reached | {name: "open" for name in ports(udp) if name == "443/udp"}


def wait_for_site(server: Vps, *, status: int = 200, seconds: float = 90) -> float:
    """Ask the API until it answers; returns how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if asked(server) == status:
            return time.monotonic() - began
        time.sleep(0.1)
    raise AssertionError(f"no answer within {seconds} s\n{server.remote('status', check=False).stdout}")


def asked(server: Vps) -> int:
    """The status of one request to the API's start page; 0 when there was no answer."""
    client = Connection(server.site, server.site.api)
    client.timeout = 5
    try:
        client.connect()
        client.request("GET", "/")
        return client.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        client.close()


def test_a_release_arrives_over_ssh_by_a_key_that_can_do_nothing_else(server: Vps, repository: Repository) -> None:
    release = repository.pack()
    told = server.deploy(release, "--by", "pipeline[bot]")
    assert f"Release {release.name} serves" in told.stdout
    assert server.live() == {"RELEASE": release.name, "SHA256": release.digest, **repository.images}
    assert server.smoke().stdout.count("ok") == 2
    assert "by pipeline[bot]" in server.remote("status").stdout

    def refused(*words: str) -> str:
        told = run(*server.host.ssh_command("deploy", key=server.host.pipeline_key), *words, check=False)
        assert told.returncode != 0, told.stdout
        return told.stdout + told.stderr

    assert "unknown command: id" in refused("id")
    assert "unknown command: none" in refused()
    assert "unknown command: sh" in refused("sh -c id")
    ssh = server.host.ssh_command("deploy", key=server.host.pipeline_key)
    forward = run(ssh[0], "-W", "127.0.0.1:5432", *ssh[1:], check=False)
    assert forward.returncode != 0
    assert "forwarding failed" in forward.stderr
    sftp = run(ssh[0], "-s", *ssh[1:], "sftp", check=False)
    assert sftp.returncode != 0


def test_root_does_not_come_in_with_the_right_key_either(server: Vps) -> None:
    assert server.host.as_root("id -u").stdout.strip() == "0"
    told = server.host.ssh("root", "true", check=False)
    assert told.returncode != 0
    assert "Permission denied (publickey)" in told.stderr
    told = server.host.ssh("deploy", "sudo -n true", check=False)
    assert told.returncode != 0


@pytest.mark.parametrize("user", ["root", "admin", "deploy"])
def test_nobody_comes_in_without_a_key(server: Vps, user: str) -> None:
    server.host.console("chpasswd", stdin=f"{user}:a password that is known\n")
    ssh = server.host.ssh_command(user)
    told = run(ssh[0], "-o", "PubkeyAuthentication=no", *ssh[1:], "true", check=False)
    assert told.returncode != 0
    assert "Permission denied (publickey)" in told.stderr  # a password is not even asked for


def test_a_server_with_another_host_key_gets_nothing(server: Vps, repository: Repository, tmp_path: Path) -> None:
    known = repository.path / "infra/custom/known_hosts"
    right = known.read_text(encoding="utf-8")
    other = hosts.new_key(tmp_path / "other").with_suffix(".pub").read_text(encoding="utf-8").split()[1]
    try:
        known.write_text(re.sub(r"(ssh-ed25519) \S+", rf"\1 {other}", right), encoding="utf-8")
        told = server.remote("status", check=False, REGISTRY_TOKEN="t0ken")
    finally:
        known.write_text(right, encoding="utf-8")
    assert told.returncode != 0
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in told.stderr
    assert "project" not in told.stdout


@pytest.mark.parametrize("firewall", ["nftables", "ufw"])
def test_from_outside_only_the_web_answers(server: Vps, internet: hosts.Internet, firewall: str) -> None:
    outsider = internet.outsider()
    if firewall == "ufw":
        server.host.console("nft", "delete", "table", "inet", "host")
        for words in (
            "default deny incoming",
            f"allow from {internet.gateway} to any port 22 proto tcp",
            "allow 80/tcp",
            "allow 443",
            "--force enable",
        ):
            server.host.console("ufw", *words.split())
    try:
        assert audit(outsider, server) == {"80/tcp": "open", "443/tcp": "open", "443/udp": "open"}
        assert server.there("echo in").strip() == "in"  # the administrator still is
    finally:
        if firewall == "ufw":
            server.host.console("ufw", "disable")
            server.host.console("systemctl", "restart", "nftables")


def test_nobody_gets_past_the_proxy_by_the_containers_own_addresses(server: Vps, internet: hosts.Internet) -> None:
    rows = server.there(
        "docker ps -q | xargs docker inspect --format "
        "'{{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}'"
    )
    addresses = [word for row in rows.splitlines() for word in row.split()[1:]]
    assert len(addresses) >= 6
    outsider = internet.outsider("--cap-add", "NET_ADMIN")
    # A neighbour in the provider's network may send packets for any address to the server.
    for address in addresses:
        outsider.exec("ip", "route", "replace", f"{address}/32", "via", server.host.address)
    scan = outsider.exec("nmap", "-Pn", "-n", "-p", "80,443,2019,3000,5432,8080", "-oG", "-", *addresses).stdout
    assert [row for row in scan.splitlines() if "/open/" in row] == []


def test_a_deploy_goes_on_when_the_connection_is_cut(server: Vps, repository: Repository) -> None:
    release = repository.pack(API_IMAGE=repository.images["API_IMAGE"])
    with traffic(server.site, slow=False) as seen:
        running = server.start("deploy", release.archive)
        server.wait_for_log(running, "Try the new images")
        run("pkill", "-KILL", "--parent", str(running.pid), check=False)
        running.kill()
        until = time.monotonic() + 90
        while server.live()["RELEASE"] != release.name:
            assert time.monotonic() < until, server.remote("status").stdout
            time.sleep(0.5)
        while "under way" in server.remote("status").stdout:
            time.sleep(0.5)
    assert seen.failed == []


STEPS = ["Fill the slot", "Switch from", "Pull images", "Retire"]
WAYS_DOWN = ("reboot", "power cut")
# Each way at one step; FULL=1 tries each at every step.
GOING_DOWN = [(how, step) for how in WAYS_DOWN for step in STEPS] if FULL else list(zip(WAYS_DOWN, STEPS, strict=False))


@pytest.mark.parametrize(("how", "step"), GOING_DOWN)
def test_a_server_that_goes_down_in_mid_deploy_serves_again_by_itself(
    server: Vps, repository: Repository, pushed: Callable[..., str], figures: Figures, how: str, step: str
) -> None:
    release = repository.pack(API_IMAGE=pushed("api", f"{how[0]}{STEPS.index(step)}"))
    running = server.start("deploy", release.archive)
    server.wait_for_log(running, step)
    began = time.monotonic()
    if how == "reboot":
        server.host.reboot()
    else:
        server.host.cut_power()
        server.host.boot()
    wait_for_site(server)
    figures.add(f"{how} at the step {step}", f"away for {time.monotonic() - began:.1f} s, boot included")
    running.wait(timeout=60)
    told = server.remote("deploy", release.name, check=False)
    assert told.returncode == 0, told.stdout
    assert server.live()["RELEASE"] == release.name
    assert server.smoke(check=False).returncode == 0


def test_the_engine_is_restarted_in_mid_deploy(server: Vps, repository: Repository, pushed: Callable[..., str]) -> None:
    release = repository.pack(API_IMAGE=pushed("api", "e1"))
    with traffic(server.site, slow=False) as seen:
        running = server.start("deploy", release.archive)
        server.wait_for_log(running, "Fill the slot")
        server.host.console("systemctl", "restart", "docker")
        running.wait(timeout=120)
        told = server.remote("deploy", release.name, check=False)
    assert told.returncode == 0, told.stdout
    assert seen.failed == []  # live-restore: containers go on without their engine
    assert server.live()["RELEASE"] == release.name


def test_a_clock_that_is_wrong_harms_nothing(server: Vps, repository: Repository) -> None:
    for offset in ("+400d", "-400d"):
        release = repository.pack()
        archive = release.archive.read_bytes()
        assert archive
        server.host.write(f"{server.folder}/incoming.tar.gz", "")
        run("docker", "cp", release.archive, f"{server.host.container.id}:{server.folder}/incoming.tar.gz")
        server.host.console("chown", "deploy:", f"{server.folder}/incoming.tar.gz")
        told = server.there(
            f"(echo; echo; cat incoming.tar.gz) | faketime -f {offset} bin/entry deploy {release.name} {release.digest}"
        )
        assert f"Release {release.name} serves" in told
    release = repository.pack()
    server.deploy(release)
    server.remote("rollback")
    assert server.live()["RELEASE"] != release.name
    kept = server.there("ls releases").split()
    assert len(kept) >= 5


def test_without_the_registry_a_deploy_is_refused_and_a_rollback_works(
    server: Vps, repository: Repository, pushed: Callable[..., str], registry: Registry
) -> None:
    server.deploy(repository.pack(API_IMAGE=pushed("api", "n1")))
    second = repository.pack(API_IMAGE=pushed("api", "n2"))
    socket = f"registry@{registry.port}"
    server.host.console("systemctl", "stop", f"{socket}.socket", f"{socket}.service")
    try:
        with traffic(server.site, slow=False) as seen:
            told = server.deploy(second, check=False)
            back = server.remote("rollback", check=False)
    finally:
        server.host.console("systemctl", "start", f"{socket}.socket")
    assert told.returncode == 1
    assert "is the registry reachable" in told.stdout
    assert back.returncode == 0, back.stdout
    assert seen.failed == []
    server.remote("deploy", second.name)
    assert server.live()["RELEASE"] == second.name


def test_an_api_that_crashes_later_is_started_again_and_can_be_rolled_back(
    server: Vps, repository: Repository, pushed: Callable[..., str]
) -> None:
    server.deploy(repository.pack())
    good = server.live()["RELEASE"]
    server.deploy(repository.pack(API_IMAGE=pushed("api", "crash", behaviour="crash-after=15")))
    time.sleep(20)
    assert wait_for_site(server) < 10
    assert "restarted" in server.remote("status").stdout
    server.remote("rollback")
    assert server.live()["RELEASE"] == good
    assert wait_for_site(server) < 1


def test_a_disk_that_is_full_stops_the_deploy_and_nothing_else(
    server: Vps, repository: Repository, pushed: Callable[..., str]
) -> None:
    release = repository.pack(API_IMAGE=pushed("api", "d1"))
    # The folder of the project's state, on a disk of its own that is full.
    state = f"{server.folder}/state"
    server.host.console(
        "sh",
        "-c",
        f"cp -a {state} /root/state && mount -t tmpfs -o size=256k,mode=700 tmpfs {state} "
        f"&& cp -a /root/state/. {state} && chown deploy: {state}",
    )
    try:
        server.host.console("dd", "if=/dev/zero", f"of={state}/filler", "bs=1k", check=False)
        with traffic(server.site, slow=False) as seen:
            told = server.deploy(release, check=False)
        assert told.returncode != 0
        assert "no space left on the device" in told.stdout + told.stderr
        assert seen.failed == []
        server.host.console("rm", f"{state}/filler")
        server.remote("deploy", release.name)
        assert server.live()["RELEASE"] == release.name
    finally:
        server.host.console("sh", "-c", f"cp -a {state}/. /root/state && umount {state} && cp -a /root/state/. {state}")
