"""VPSes: containers that boot systemd, with an sshd, a firewall and a Docker engine of their own.

All of them stand in one network, the "internet", with IPv4 and IPv6. This machine is its gateway and plays the
administrator: its addresses are the admin networks. Anybody else there is an outsider. ``images/vps-bare`` is what a
host has when it is handed over, ``images/vps-ready`` has also what the runbook installs from Debian.
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab import images
from tests.lab.containers import Container, started
from tests.lab.place import PREFIX
from tests.lab.registry import Registry
from tests.lab.shell import LabError, run, step

BOOT_SECONDS = 90
# Everything but SYS_RESOURCE, which not every machine that runs this may give.
CAPABILITIES = (
    "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK "
    "IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST "
    "NET_RAW SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT "
    "SYS_PTRACE SYS_RAWIO SYS_TIME SYS_TTY_CONFIG WAKE_ALARM"
)
SYSTEMD = [
    *(word for name in CAPABILITIES.split() for word in ("--cap-add", name)),
    *(word for name in ("seccomp", "apparmor", "systempaths") for word in ("--security-opt", f"{name}=unconfined")),
    *("--device-cgroup-rule", "a *:* rwm", "--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"),
]
# systemd 257 wants to be asked twice before it boots on a machine with version 1 of the control groups.
LEGACY = [
    *("--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"),
    *("--env", "SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0"),
]


@dataclass
class Host:
    """One VPS: reached over SSH, or through the provider's console (`console`), where nobody is in between."""

    name: str
    container: Container
    address: str
    keys: Path
    address6: str = ""
    image: str = ""

    @property
    def bare(self) -> bool:
        """Whether the runbook's packages are still to be installed."""
        return self.image.startswith("vps-bare:")

    @property
    def suite(self) -> str:
        """Which Debian it has."""
        return self.image.partition(":")[2]

    @property
    def known_hosts(self) -> Path:
        """A file with this host's key, as read from its console."""
        return self.keys / f"{self.name}.known_hosts"

    @property
    def key(self) -> Path:
        """The administrator's private key."""
        return self.keys / "admin"

    @property
    def pipeline_key(self) -> Path:
        """The pipeline's private key."""
        return self.keys / "pipeline"

    def console(self, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 300) -> str:
        """Run a command as root, past SSH and firewall."""
        options = ["--interactive"] if stdin is not None else []
        told = run("docker", "exec", *options, self.container.id, *command, check=check, stdin=stdin, timeout=timeout)
        return told.stdout + ("" if check else told.stderr)

    def ssh_command(self, user: str, *, key: Path | None = None) -> list[str]:
        """``ssh`` with this host's pinned key, up to where the command begins."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}"]
        # sshd closes its port for a moment when it reads its configuration again: a person would try once more.
        options += ["GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "ConnectTimeout=10", "ConnectionAttempts=3"]
        options += ["LogLevel=ERROR"]
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-T", *words, "-i", str(key or self.key), f"{user}@{self.address}"]

    def ssh(
        self,
        user: str,
        command: str,
        *,
        key: Path | None = None,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 600,
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of shell there over SSH."""
        return run(*self.ssh_command(user, key=key), command, check=check, stdin=stdin, timeout=timeout)

    def as_root(
        self, command: str, *, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run lines of shell there as root, as who administers does: over SSH as ``admin``, with sudo."""
        return self.ssh("admin", f"sudo bash -c {shlex.quote(command)}", check=check, stdin=stdin)

    def write(self, path: str, text: str, *, mode: str = "0644", owner: str = "root") -> None:
        """Write a file as root."""
        self.console("install", "-D", f"--mode={mode}", f"--owner={owner}", "/dev/stdin", path, stdin=text)

    def reboot(self) -> None:
        """Shut down in order, and boot."""
        self.console("systemctl", "--no-block", "reboot")
        until = time.monotonic() + BOOT_SECONDS
        while self.container.facts["State"]["Running"]:
            if time.monotonic() > until:
                raise LabError(f"{self.name} does not shut down")
            time.sleep(0.2)
        self.boot()

    def cut_power(self) -> None:
        """Everything on it stops in the same moment."""
        run("docker", "kill", self.container.id)

    def boot(self) -> None:
        """Switch it on, and wait until sshd and the engine answer."""
        run("docker", "start", self.container.id)
        self.wait()

    def wait(self) -> None:
        """Wait until it has booted."""
        until = time.monotonic() + BOOT_SECONDS
        state = ""
        while state not in ("running", "degraded"):
            if time.monotonic() > until:
                raise LabError(
                    f"{self.name} has not booted: {state}\n{self.console('systemctl', '--failed', check=False)}"
                )
            time.sleep(0.3)
            state = self.console("systemctl", "is-system-running", check=False).strip()
        ready = "systemctl is-active --quiet ssh && { ! command -v dockerd || docker info; } >/dev/null 2>&1"
        while run("docker", "exec", self.container.id, "sh", "-c", ready, check=False).returncode:
            if time.monotonic() > until:
                raise LabError(
                    f"{self.name}: no sshd or no engine\n{self.console('systemctl', '--failed', check=False)}"
                )
            time.sleep(0.3)


@dataclass
class Internet:
    """The network between VPSes, administrator and outsiders."""

    name: str
    gateway: str
    gateway6: str
    keys: Path
    held: ExitStack
    taken: int = 10

    @property
    def admin_networks(self) -> str:
        """The administrator's addresses, as the answer takes them."""
        return f"{self.gateway}/32 {self.gateway6}/128"

    def next_address(self) -> str:
        """An address that nobody has."""
        self.taken += 1
        return f"{self.gateway.rpartition('.')[0]}.{self.taken}"

    def sixth(self, address: str) -> str:
        """The IPv6 address that belongs to an IPv4 one."""
        return self.gateway6.removesuffix("1") + address.rpartition(".")[2]

    def host(self, name: str, *, registry: Registry | None = None, image: str = "vps-ready:trixie") -> Host:
        """A VPS as its provider hands it over: root may come in with the administrator's key."""
        address = self.next_address()
        reference = images.ensure(image)
        with step(f"booting {name}"):
            container = self._boot(reference, name, address)
            host = Host(name, container, address, self.keys, address6=self.sixth(address), image=image)
            host.write("/etc/around", f"AROUND={self.gateway}\n")
            host.write("/etc/apt/sources.list.d/security.list", images.security_source(host.suite))
            host.write("/root/.ssh/authorized_keys", (self.keys / "admin.pub").read_text(), mode="0600")
            host.wait()
            host_key = host.console("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
            host.known_hosts.write_text(f"{address},{host.address6},{name} {host_key[0]} {host_key[1]}\n")
            if registry:
                host.console("systemctl", "enable", "--quiet", "--now", f"registry@{registry.port}.socket")
        return host

    def _boot(self, image: str, name: str, address: str) -> Container:
        full = f"{self.name}-{name}"
        volume = f"{full}-docker"
        run("docker", "volume", "create", volume)
        self.held.callback(run, "docker", "volume", "rm", "--force", volume, check=False)
        self.held.callback(run, "docker", "rm", "--force", "--volumes", full, check=False)
        run(
            *("docker", "run", "--detach", "--name", full, "--hostname", name, "--network", self.name),
            *("--ip", address, "--ip6", self.sixth(address)),
            *(*SYSTEMD, *(LEGACY if Path("/sys/fs/cgroup/memory").exists() else [])),
            *("--volume", f"{volume}:/var/lib/docker", image),
        )
        return Container(full)

    def outsider(self, *options: str) -> Container:
        """Somebody else on the internet, with a port scanner."""
        return self.stranger("outsider:1", *options)

    def stranger(self, image: str, *options: str) -> Container:
        """Somebody else on the internet, with the programs of ``image``."""
        address = self.next_address()
        options = ("--network", self.name, "--ip", address, "--ip6", self.sixth(address), *options)
        return self.held.enter_context(started(images.ensure(image), options=options))


@contextmanager
def internet(registry: Registry | None = None) -> Iterator[Internet]:
    """A network for VPSes; they and it are gone when the block ends."""
    name = f"{PREFIX}net-{secrets.token_hex(3)}"
    with ExitStack() as held:
        gateway, gateway6 = _create(name)
        held.callback(run, "docker", "network", "rm", name, check=False)
        keys = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=f"{PREFIX}keys-")))
        for owner in ("admin", "pipeline"):
            new_key(keys / owner)
        if registry:
            held.enter_context(registry.also_at(gateway))
        yield Internet(name, gateway, gateway6, keys, held)


def _create(name: str) -> tuple[str, str]:
    """Make the network in ranges that no other one has; its gateway's addresses."""
    for _ in range(20):
        begin = f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        # As programs print it again: no group begins with a zero.
        begin6 = f"fd{secrets.token_hex(1)}:{secrets.randbelow(0xFFFF) + 1:x}:{secrets.randbelow(0xFFFF) + 1:x}::"
        made = run(
            *("docker", "network", "create", "--subnet", f"{begin}.0/24", "--gateway", f"{begin}.1"),
            *("--ipv6", "--subnet", f"{begin6}/64", "--gateway", f"{begin6}1", name),
            check=False,
        )
        if made.returncode == 0:
            return f"{begin}.1", f"{begin6}1"
    raise LabError(f"no network could be made: {made.stderr}")


def new_key(path: Path) -> Path:
    """A key pair: the private key's file, and beside it the public one's."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)
    return path
