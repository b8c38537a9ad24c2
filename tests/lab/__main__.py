"""The laboratory from a shell: ``python -m tests.lab images|up|down|show|hide|audit|sweep|clean``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.lab import audit, demonstration, engine, images
from tests.lab.place import PREFIX, lab_dir
from tests.lab.shell import LabError, run, say


def build(names: list[str]) -> None:
    """Build what is named (or everything), and show sizes and times."""

    def one(name: str) -> str:
        began = time.monotonic()
        reference = images.ensure(name)
        taken = time.monotonic() - began
        size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", reference).stdout)
        return f"{reference:32}{size / 1e6:8.0f} MB{taken:8.1f} s"

    # Part of the time they wait for packages.
    with engine.use(), ThreadPoolExecutor(3) as several:
        print("\n".join(several.map(one, names or list(images.CATALOGUE))))


def up() -> None:
    """Start an engine that stays."""
    pid = engine.up()
    print(f"dockerd {pid}" if pid else "an engine that is not the laboratory's is running: used as it is")


def down() -> None:
    """Stop the laboratory's engine."""
    print("stopped" if engine.down() else "the laboratory has no engine running")


def sweep() -> None:
    """Remove what killed test runs left behind: containers, volumes and networks. Not while tests run."""
    _remove("container", "volume", "network")


def clean() -> None:
    """Remove everything that the laboratory made: as sweep, and the images, the engine and the folder."""
    _remove("container", "volume", "network", "image")
    engine.down()
    shutil.rmtree(lab_dir())


def _remove(*kinds: str) -> None:
    if not engine.answers():
        return
    for kind, listing in _leftovers().items():
        if listing and kind in kinds:
            say(f"removing {len(listing)} {kind}(s)")
            force = {"container": ["--force", "--volumes"], "network": []}.get(kind, ["--force"])
            run("docker", kind, "rm", *force, *listing, check=False)


def _leftovers() -> dict[str, list[str]]:
    """What the laboratory made on the engine: by its name, by its image, or by the Compose project it belongs to."""

    def rows(kind: str, *options: str) -> list[dict[str, str]]:
        printed = run("docker", kind, "ls", *options, "--format", "{{json .}}").stdout
        return [json.loads(line) for line in printed.splitlines()]

    def labels(row: dict[str, str]) -> list[str]:
        wanted = "com.docker.compose.project="
        return [label for label in str(row.get("Labels")).split(",") if label.startswith(wanted)]

    containers = [row for row in rows("container", "--all") if PREFIX in row["Names"] or PREFIX in row["Image"]]
    projects = {label for row in containers for label in labels(row)}

    def ours(kind: str) -> list[str]:
        return [row["Name"] for row in rows(kind) if PREFIX in row["Name"] or projects & set(labels(row))]

    images_there = run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    return {
        "container": [row["Names"] for row in containers],
        "volume": ours("volume"),
        "network": ours("network"),
        "image": [reference for reference in images_there if PREFIX in reference],
    }


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("images", help=build.__doc__).add_argument("names", nargs="*", metavar="name")
    simple = {
        "up": up,
        "down": down,
        "show": demonstration.up,
        "hide": demonstration.down,
        "hold": demonstration.hold,
        "audit": audit.write_page,
        "sweep": sweep,
        "clean": clean,
    }
    for name, command in simple.items():
        commands.add_parser(name, help=command.__doc__)
    chosen = parser.parse_args()
    try:
        if chosen.command == "images":
            build(chosen.names)
        else:
            simple[chosen.command]()
    except LabError as failed:
        print(f"lab: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
