"""What auditors that nobody here wrote say of a server, and a list of its facts, by which two servers are compared.

``audit`` measures a host from other hosts: nmap, ssh-audit and lynis, attempts to come in, and the items of the CIS
Docker benchmark that can be read from ``docker info`` and ``docker inspect``. It does not care who made the host ready.
``facts_of`` reads users, settings of sshd, firewall, kernel and engine, packages, units and files.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import profiles, rendering
from tests.lab import engine, images
from tests.lab.containers import Container, started
from tests.lab.hosts import Host, Internet, internet
from tests.lab.registry import Registry, registry
from tests.lab.shell import LabError, run, say, step
from tests.lab.vps import Repository, Vps

ROOT = rendering.ROOT
PAGE = ROOT / "docs" / "audit.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

OPEN_TO_ALL = {"80/tcp", "443/tcp"}
OPEN_TO_ADMINS = {"22/tcp", *OPEN_TO_ALL}
# PostgreSQL, the engine's API with and without TLS, Caddy's API, the applications.
NEVER = "5432,2375,2376,2019,8080,3000"
LYNIS_FLOOR = 80
PASSWORD = "a password that is known"
# A QUIC packet of a version that does not exist: whoever speaks QUIC answers with the versions that it knows.
QUIC = """
import os, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as probe:
    probe.settimeout(3)
    for _ in range(3):
        names = b"\\x08" + os.urandom(8) + b"\\x08" + os.urandom(8)
        probe.sendto(b"\\xc0\\x1a\\x2a\\x3a\\x4a" + names + bytes(1200), (sys.argv[1], 443))
        try:
            sys.exit(probe.recv(2048)[1:5] != bytes(4))
        except TimeoutError:
            pass
sys.exit(1)
"""


@dataclass(frozen=True)
class Row:
    """One thing that was looked at: what was wanted, and what was seen."""

    auditor: str
    what: str
    wanted: str
    seen: str
    good: bool


@dataclass
class Report:
    """What an audit found."""

    rows: list[Row] = field(default_factory=list)
    lynis_index: int = 0
    lynis_says: list[str] = field(default_factory=list)
    ssh_failures: list[str] = field(default_factory=list)
    ssh_warnings: list[str] = field(default_factory=list)

    def add(self, auditor: str, what: str, wanted: object, seen: object, *, good: bool | None = None) -> None:
        """Note what was seen; good when it is what was wanted, unless said otherwise."""
        self.rows.append(Row(auditor, what, str(wanted), str(seen), wanted == seen if good is None else good))

    @property
    def bad(self) -> list[Row]:
        """What is not as it should be."""
        return [row for row in self.rows if not row.good]


def audit(net: Internet, host: Host, *, served: bool = True) -> Report:
    """Measure a host that is ready, from outside and from the administrator's address.

    Args:
        net: Where it stands.
        host: What is measured.
        served: Whether a release runs on it, so that the web ports must answer.
    """
    report = Report()
    outsider = net.stranger("auditor:1", "--cap-add", "NET_ADMIN")
    with started(images.ensure("auditor:1"), options=("--network", "host")) as admin:
        _look_at_ports(report, host, outsider, admin, served=served)
        _ask_ssh_audit(report, host)
        _look_at_the_engine(report, host)
        _look_at_the_host(report, host, admins=(net.gateway, net.gateway6))
        _ask_lynis(report, host)
        _try_to_come_in(report, host, admin)
    return report


# ----- From outside ------------------------------------------------------------------------------------------------


def open_ports(scanner: Container, address: str) -> set[str]:
    """Every TCP port of an address that takes a connection, as nmap sees it from there."""
    sixth = ["-6"] if ":" in address else []
    scan = scanner.exec("nmap", *sixth, "-Pn", "-n", "-p-", "--min-rate", "5000", "-oG", "-", address).stdout
    assert "Status: Up" in scan, scan
    return {f"{number}/tcp" for number in re.findall(r"(\d+)/open/tcp/", scan)}


def speaks_quic(scanner: Container, address: str) -> bool:
    """Whether something answers at 443/udp as HTTP/3 does."""
    return scanner.exec("python3", "-c", QUIC, address, check=False).returncode == 0


def _look_at_ports(report: Report, host: Host, outsider: Container, admin: Container, *, served: bool) -> None:
    for who, scanner, most in (("the internet", outsider, OPEN_TO_ALL), ("an admin network", admin, OPEN_TO_ADMINS)):
        wanted = most if served else most - OPEN_TO_ALL
        for kind, address in (("IPv4", host.address), ("IPv6", host.address6)):
            seen = open_ports(scanner, address)
            report.add("nmap", f"TCP ports open to {who}, {kind}", _ports(wanted), _ports(seen))
            if served:
                answer = "answers" if speaks_quic(scanner, address) else "no answer"
                report.add("QUIC probe", f"443/udp from {who}, {kind}", "answers", answer)
    listening = ", ".join(sorted(set(_listens_on_udp(host)))) or "none"
    report.add("ss", "UDP ports that something listens on", "443" if served else "none", listening)
    addresses = _containers_addresses(host)
    for address in addresses:  # a neighbour in the provider's network may send packets for any address to the server
        outsider.exec("ip", "route", "replace", f"{address}/32", "via", host.address)
    for who, scanner in (("the internet", outsider), ("an admin network", admin)):
        told = scanner.exec("nmap", "-Pn", "-n", "-p", NEVER, "-oG", "-", host.address).stdout
        told += scanner.exec("nmap", "-6", "-Pn", "-n", "-p", NEVER, "-oG", "-", host.address6).stdout
        report.add("nmap", f"PostgreSQL, the engine's API and the applications from {who}", "none", _none_open(told))
    if addresses:
        told = outsider.exec("nmap", "-Pn", "-n", "-p", f"80,443,{NEVER}", "-oG", "-", *addresses).stdout
        report.add("nmap", "the containers' own addresses from a neighbour", "none", _none_open(told))


def _ports(numbers: set[str]) -> str:
    return ", ".join(sorted(numbers, key=lambda each: int(each.partition("/")[0]))) or "none"


def _none_open(scan: str) -> str:
    return ", ".join(re.findall(r"(\d+)/open/tcp/", scan)) or "none"


def _listens_on_udp(host: Host) -> list[str]:
    listing = host.console("ss", "-Hlun").splitlines()
    local = [line.split()[3] for line in listing if line.strip()]
    return [address.rpartition(":")[2] for address in local if not address.startswith(("127.", "[::1]"))]


def _containers_addresses(host: Host) -> list[str]:
    listing = host.console(
        *("sh", "-c"),
        "docker ps -q | xargs -r docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}'",
    )
    return listing.split()


def _try_to_come_in(report: Report, host: Host, admin: Container) -> None:
    """Attempts that must fail; sshd makes an address wait that fails often, so they stand last."""
    report.add("ssh", "admin with a key, then sudo", "0", host.as_root("id -u").stdout.strip())
    groups = host.ssh("deploy", "id -nG").stdout.strip()
    report.add("ssh", "groups of deploy", "deploy docker", " ".join(sorted(set(groups.split()) - {"users"})))
    told = host.ssh("deploy", "sudo -n id", check=False)
    report.add("ssh", "deploy with sudo", "refused", "refused" if told.returncode else "comes through")
    told = host.ssh("admin", "docker ps", check=False)
    report.add("ssh", "the engine's socket as admin without sudo", "refused", _refusal(told, "permission denied"))
    told = host.ssh("root", "true", check=False)
    report.add("ssh", "root with the administrator's key", "refused", _refusal(told, "permission denied (publickey)"))
    for user in ("root", "deploy"):
        told = _with_password(host, admin, user)
        what = f"{user} with the right password"
        report.add("ssh", what, "refused", _refusal(told, "permission denied (publickey)"))
    until = time.monotonic() + 120
    while host.ssh("admin", "true", check=False).returncode:
        assert time.monotonic() < until, "the administrator is not let in again"
        time.sleep(5)


def _refusal(told: subprocess.CompletedProcess[str], words: str) -> str:
    if told.returncode == 0:
        return "comes in"
    return "refused" if words in (told.stdout + told.stderr).lower() else (told.stdout + told.stderr).strip()


def _with_password(host: Host, admin: Container, user: str) -> subprocess.CompletedProcess[str]:
    """Try to log in as somebody who has learnt a password; the account is as before afterwards."""
    shadow = host.console("getent", "shadow", user).split(":")[1]
    host.console("chpasswd", stdin=f"{user}:{PASSWORD}\n")
    try:
        options = [f"{name}=no" for name in ("StrictHostKeyChecking", "PubkeyAuthentication")]
        options += ["UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "NumberOfPasswordPrompts=1"]
        words = [word for option in options for word in ("-o", option)]
        return admin.exec("sshpass", "-p", PASSWORD, "ssh", *words, f"{user}@{host.address}", "true", check=False)
    finally:
        host.console("usermod", "--password", shadow, user)


# ----- Auditors ----------------------------------------------------------------------------------------------------


def _ask_ssh_audit(report: Report, host: Host) -> None:
    program = Path(sys.executable).with_name("ssh-audit")
    told = json.loads(run(program, "--json", host.address, check=False).stdout)
    for kind in ("kex", "key", "enc", "mac"):
        for each in told[kind]:
            notes = each.get("notes", {})
            report.ssh_failures += [f"{each['algorithm']}: {note}" for note in notes.get("fail", [])]
            report.ssh_warnings += [f"{each['algorithm']}: {note}" for note in notes.get("warn", [])]
    found = (len(report.ssh_failures), len(report.ssh_warnings))
    report.add("ssh-audit", "failures, warnings", "0, 0", f"{found[0]}, {found[1]}")


def _ask_lynis(report: Report, host: Host) -> None:
    before = _packages(host)
    host.console("sh", "-c", "apt-get update -q && apt-get install -y -q lynis", timeout=600)
    try:
        host.console("lynis", "audit", "system", "--quick", "--quiet", "--no-colors", check=False, timeout=900)
        told = host.console("cat", "/var/log/lynis-report.dat")
    finally:
        brought = sorted(_packages(host) - before)
        host.console("apt-get", "purge", "-y", "-q", "--allow-remove-essential", *brought, timeout=600)
        host.console("sh", "-c", "rm -f /var/log/lynis*")
    report.lynis_index = int(re.findall(r"^hardening_index=(\d+)$", told, re.MULTILINE)[0])
    said = re.findall(r"^(?:warning|suggestion)\[\]=([A-Z0-9-]+)\|([^|]*)\|([^|]*)", told, re.MULTILINE)
    report.lynis_says = sorted(
        {f"{rule}: {text}" + (f" ({more})" if more.strip("-") else "") for rule, text, more in said}
    )
    good = report.lynis_index >= LYNIS_FLOOR
    report.add("lynis", "hardening index", f"{LYNIS_FLOOR} or more", report.lynis_index, good=good)
    warnings = re.findall(r"^warning\[\]=([A-Z0-9-]+)", told, re.MULTILINE)
    report.add("lynis", "warnings", "none", ", ".join(warnings) or "none")


def _packages(host: Host) -> set[str]:
    return set(host.console("dpkg-query", "--show", "--showformat", "${Package}\n").split())


def _look_at_the_host(report: Report, host: Host, admins: tuple[str, str]) -> None:
    failed = host.console("systemctl", "list-units", "--state=failed", "--plain", "--no-legend").split("\n")
    report.add("systemd", "failed units", "none", ", ".join(line.split()[0] for line in failed if line) or "none")
    somebody = "192.0.2.77"
    host.console("fail2ban-client", "set", "sshd", "banip", somebody)
    until = time.monotonic() + 30
    while somebody not in host.console("nft", "list", "ruleset") and time.monotonic() < until:
        time.sleep(0.5)
    banned = somebody in host.console("nft", "list", "ruleset")
    host.console("fail2ban-client", "set", "sshd", "unbanip", somebody)
    report.add("fail2ban", "who is banned is shut out by the firewall", True, banned)
    ignored = host.console("fail2ban-client", "get", "sshd", "ignoreip")
    report.add("fail2ban", "administrators are never banned", True, all(each in ignored for each in admins))


def _look_at_the_engine(report: Report, host: Host) -> None:
    """Items of the CIS Docker benchmark that the engine and its containers tell by themselves."""

    def note(item: str, what: str, wanted: object, seen: object) -> None:
        report.add("CIS Docker", f"{item} {what}", wanted, seen)

    info = json.loads(host.console("docker", "info", "--format", "{{json .}}"))
    bridge = json.loads(host.console("docker", "network", "inspect", "bridge"))[0]["Options"]
    note(
        "2.2",
        "traffic between containers of the default network",
        "false",
        bridge["com.docker.network.bridge.enable_icc"],
    )
    note("2.5", "registries without TLS but this machine's own", "127.0.0.0/8", ", ".join(_insecure(info)))
    note("2.6", "storage driver", "overlay2", info["Driver"])
    sockets = host.console("ss", "-Hltnp")
    note("2.7", "ports that dockerd listens on", 0, len(re.findall(r'"dockerd"', sockets)))
    note("2.13", "log driver", "json-file", info["LoggingDriver"])
    security = info["SecurityOptions"]
    settings = json.loads(host.console("cat", "/etc/docker/daemon.json"))  # older engines do not tell it
    note("2.14", "no new privileges by default", True, settings["no-new-privileges"])
    note("2.15", "live restore", True, info["LiveRestoreEnabled"])
    note("2.17", "seccomp", True, any("seccomp" in each for each in security))
    note("2.18", "experimental features", False, info["ExperimentalBuild"])
    for item, path, wanted in (
        ("3.1–3.2", "/usr/lib/systemd/system/docker.service", "644 root:root"),
        ("3.3–3.4", "/usr/lib/systemd/system/docker.socket", "644 root:root"),
        ("3.5–3.6", "/etc/docker", "755 root:root"),
        ("3.15–3.16", "/run/docker.sock", "660 root:docker"),
        ("3.17–3.18", "/etc/docker/daemon.json", "644 root:root"),
    ):
        note(item, path, wanted, host.console("stat", "--format", "%a %U:%G", path).strip())
    _look_at_containers(report, host)


def _insecure(info: Mapping[str, Any]) -> list[str]:
    # ::1/128 is this machine too.
    return [each for each in info["RegistryConfig"]["InsecureRegistryCIDRs"] if each != "::1/128"]


def _look_at_containers(report: Report, host: Host) -> None:
    listing = host.console("sh", "-c", "docker ps -q | xargs -r docker inspect").strip()
    containers = json.loads(listing or "[]")
    if not containers:
        return
    every = len(containers)

    def note(item: str, what: str, count: int) -> None:
        report.add("CIS Docker", f"{item} {what}", f"{every} of {every} containers", f"{count} of {every} containers")

    configs = [each["HostConfig"] for each in containers]
    note("4.1", "no user of the image's is root, or every capability is dropped first", sum(map(_not_root, containers)))
    note("5.4", "capabilities dropped", sum("ALL" in (each["CapDrop"] or []) for each in configs))
    note("5.5", "not privileged", sum(not each["Privileged"] for each in configs))
    sources = [[mount.get("Source", "") for mount in each["Mounts"]] for each in containers]
    private = [
        not any(re.fullmatch(r"/|/(boot|dev|etc|lib|proc|sys|usr)(/.*)?", each) for each in some) for some in sources
    ]
    note("5.6", "no folder of the system mounted", sum(private))
    note("5.11", "memory limited", sum(each["Memory"] > 0 for each in configs))
    note("5.13", "root file system read-only", sum(each["ReadonlyRootfs"] for each in configs))
    note("5.10", "no network of the host's", sum(each["NetworkMode"] != "host" for each in configs))
    note(
        "5.16–5.17",
        "no processes or IPC of the host's",
        sum("host" not in (each["PidMode"], each["IpcMode"]) for each in configs),
    )
    note(
        "5.26",
        "no new privileges",
        sum(any("no-new-privileges" in word for word in each["SecurityOpt"] or []) for each in configs),
    )
    note("5.27", "health is checked", sum(bool(each["State"].get("Health")) for each in containers))
    note("5.29", "processes limited", sum((each["PidsLimit"] or 0) > 0 for each in configs))
    note(
        "5.32",
        "the engine's socket is not mounted",
        sum(not any("docker.sock" in each for each in some) for some in sources),
    )


def _not_root(container: Mapping[str, Any]) -> bool:
    return str(container["Config"]["User"]).partition(":")[0] not in ("", "0", "root") or "ALL" in (
        container["HostConfig"]["CapDrop"] or []
    )


# ----- Facts -------------------------------------------------------------------------------------------------------

UNITS = (
    *("apt-daily-upgrade.timer", "auditd", "docker", "fail2ban", "nftables", "server-alarms.timer", "ssh"),
    *("harbour-shop-backup.timer", "harbour-shop-restore-drill.timer"),
    *("systemd-timesyncd", "unattended-upgrades"),
)
PATHS = (
    *("/etc/apt/apt.conf.d/20auto-upgrades", "/etc/audit/rules.d/60-slipway.rules", "/etc/cron.d", "/etc/crontab"),
    *(
        "/etc/docker/daemon.json",
        "/etc/fail2ban/jail.local",
        "/etc/issue",
        "/etc/issue.net",
        "/etc/modprobe.d/slipway.conf",
        "/etc/profile.d/slipway.sh",
        "/etc/ssh/sshd_config",
    ),
    *("/etc/nftables.conf", "/etc/security/limits.d/10-slipway.conf", "/etc/ssh/sshd_config.d/10-slipway.conf"),
    *("/etc/sudoers.d/10-admin", "/etc/sysctl.d/60-slipway.conf", "/etc/systemd/coredump.conf.d/slipway.conf"),
    *("/etc/systemd/journald.conf.d/size.conf", "/etc/systemd/system/nftables.service.d/own-table.conf"),
    *("/etc/systemd/system/server-alarms.service", "/etc/systemd/system/server-alarms.timer"),
    *("/etc/systemd/system/harbour-shop-backup.service", "/etc/systemd/system/harbour-shop-backup.timer"),
    *("/etc/systemd/system/harbour-shop-restore-drill.service", "/etc/systemd/system/harbour-shop-restore-drill.timer"),
    *("/home/admin", "/home/admin/.ssh", "/home/deploy", "/home/deploy/.ssh", "/usr/local/sbin/server-alarms"),
)
IN_THE_FOLDER = ("", "/bin", "/bin/entry", "/proxy", "/releases", "/state", "/backups")


def facts_of(host: Host, folder: str = "/opt/harbour-shop") -> dict[str, Any]:
    """What a server's maker decides, in a form in which two servers can be compared; ``folder`` is the project's."""

    def lines(*command: str) -> list[str]:
        return [line for line in host.console(*command, check=False).splitlines() if line.strip()]

    names = ("admin", "deploy", "root")
    keys = [
        line.lstrip("-").partition("=")[0].strip()
        for line in lines("grep", "-v", "^#", "/etc/sysctl.d/60-slipway.conf")
    ]
    paths = [*PATHS, f"/etc/{Path(folder).name}-alarms.conf", *(folder + each for each in IN_THE_FOLDER)]
    return {
        "users": {
            name: {
                "shell": host.console("getent", "passwd", name).strip().rpartition(":")[2],
                "groups": sorted(host.console("id", "-nG", name).split()),
                "password": host.console("passwd", "--status", name).split()[1],
                "sudo": "NOPASSWD: ALL" in host.console("sudo", "-l", "-U", name, check=False),
            }
            for name in names
        },
        "sshd": sorted(lines("sshd", "-T")),
        "firewall": host.console("nft", "--stateless", "list", "table", "inet", "host", check=False).strip(),
        "kernel": dict(line.partition(" = ")[::2] for line in lines("sysctl", "--ignore", *keys)),
        "packages": sorted(_packages(host)),
        "engine": json.loads(host.console("cat", "/etc/docker/daemon.json")),
        "units": {
            unit: [
                host.console("systemctl", "is-enabled", unit, check=False).strip().splitlines()[-1:],
                host.console("systemctl", "is-active", unit, check=False).strip().splitlines()[-1:],
            ]
            for unit in UNITS
        },
        "failed units": lines("systemctl", "list-units", "--state=failed", "--plain", "--no-legend"),
        "files": {path: " ".join(lines("stat", "--format", "%a %U:%G %F", path)) for path in paths},
        "contents": {
            path: " ".join(line.split()[0] for line in lines("sha256sum", path))
            for path in paths
            if not path.endswith("alarms.conf")
        },
        "login": lines("grep", "-E", "^(UMASK|SHA_CRYPT)", "/etc/login.defs"),
        "debsums": lines("grep", "^CRON_CHECK", "/etc/default/debsums"),
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Name what differs between the facts of two hosts."""
    found = []
    for name in sorted({*one, *other}):
        left, right = one.get(name), other.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += [f"{name}: {each}" for each in differences(left, right)]
        elif isinstance(left, list) and isinstance(right, list):
            found += [f"{name}: only the first has {each}" for each in left if each not in right]
            found += [f"{name}: only the second has {each}" for each in right if each not in left]
        elif left != right:
            found.append(f"{name}: {left!r} and {right!r}")
    return found


# ----- A host to measure, and the page -----------------------------------------------------------------------------


@contextmanager
def ready_made(folder: Path, suite: str = "trixie", store: Registry | None = None) -> Iterator[tuple[Internet, Vps]]:
    """A bare host that the runbook makes ready, package by package, with a release on it."""
    with registry() if store is None else _given(store) as place, internet(place) as net:
        answers = {
            **profiles.REQUIRED,
            "production_domain": "shop.localhost",
            "admin_networks": net.admin_networks,
            "delivery": "self_hosted_runner",
            "image_repository": f"{place.host}/shop",
        }
        source = rendering.copy_template(folder / "template")
        project = rendering.render(source, folder / "shop", answers)
        wanted = {"API": "api", "WORKER": "worker", "WEB": "web", "POSTGRES": "postgres:18", "CADDY": "caddy"}
        pushed = {
            f"{key}_IMAGE": place.push(images.ensure(name), f"shop/{key.lower()}", "1") for key, name in wanted.items()
        }
        server = Vps(
            net.host("staging", registry=place, image=f"vps-bare:{suite}"), Repository.of(project, pushed), "staging"
        )
        with step(f"provisioning Debian ({suite}) by the runbook"):
            server.provision()
        server.deploy(server.repository.pack())
        yield net, server


@contextmanager
def _given(store: Registry) -> Iterator[Registry]:
    yield store


def table(report: Report) -> str:
    """The rows as Markdown."""
    rows = [
        f"| {row.auditor} | {row.what} | {row.wanted} | {row.seen}{'' if row.good else ' **no**'} |"
        for row in report.rows
    ]
    return "\n".join(["| by | what | wanted | seen |", "| --- | --- | --- | --- |", *rows])


def write_page() -> None:
    """Audit a Debian 13 and a Debian 12 host that the runbook made ready, and write the tables into docs/audit.md."""
    parts, bad = [], []
    with engine.use():
        for suite, name in (("trixie", "Debian 13"), ("bookworm", "Debian 12")):
            text, rows = _measure(suite, name)
            parts.append(text)
            bad += [f"{name}: {row.what}: {row.seen} instead of {row.wanted}" for row in rows]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}", encoding="utf-8")
    say(f"{PAGE.relative_to(ROOT)} is written")
    if bad:
        raise LabError("not as it should be:\n" + "\n".join(bad))


def _measure(suite: str, name: str) -> tuple[str, list[Row]]:
    """One Debian's part of the page, and what is not as it should be there."""
    commit = run("git", "rev-parse", "--short=12", "HEAD", cwd=ROOT).stdout.strip()
    changed = run("git", "status", "--porcelain", "template", cwd=ROOT).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="slipway-audit-") as folder, ready_made(Path(folder), suite) as made:
        net, server = made
        with step(f"auditing {name}"):
            report = audit(net, server.host)
    when = f"{datetime.now(UTC):%Y-%m-%d}, commit `{commit}`{' with changes' if changed else ''}"
    left = "\n".join(f"- {line}" for line in report.lynis_says)
    return f"### {name}, {when}\n\n{table(report)}\n\nWhat lynis still says of it:\n\n{left}\n", report.bad
