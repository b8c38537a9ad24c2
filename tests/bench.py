"""How long a copy and an update of the default profile take, as ratios (`make bench`).

A copy is compared with copying a template of one file; an update from the last release to the working tree, with that
copy. Whole processes of Copier, one of each kind in turn, so that a busy machine slows all alike. The templates are Git
repositories with releases, as the ones that people copy from. Fails when the median of the rounds' ratios is above a
limit.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests import profiles, rendering
from tests.update import releases

LIMIT = 1.8
UPDATE_LIMIT = 2.5
LEAST_REPETITIONS = 15


def one_file_template(folder: Path) -> Path:
    """Make and release the smallest template that could be of use: one question, one file."""
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: template\nproject_name:\n  type: str\n", encoding="utf-8")
    (folder / "template" / "README.md.jinja").write_text("# {{ project_name }}\n", encoding="utf-8")
    releases.begin(folder, "release: v1.0.0")
    releases.git(folder, "tag", "v1.0.0")
    return folder


def processor_seconds() -> float:
    """Return the processor time of all finished child processes: a busy machine changes it little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Run Copier in a folder and return its seconds: by the clock, and of the processor."""
    start, processor = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, "-m", "copier", *arguments], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start, processor_seconds() - processor


def copy(template: Path, destination: Path, answers: dict[str, str]) -> tuple[float, float]:
    """Run one copy."""
    data = [argument for name, value in answers.items() for argument in ("--data", f"{name}={value}")]
    options = ["--quiet", "--trust", "--defaults", *data]
    return seconds(["copy", *options, str(template), str(destination)], destination.parent)


def update(project: Path, old: Path) -> tuple[float, float]:
    """Run one update, of a project that is made of a rendered old release."""
    releases.begin(shutil.copytree(old, project), "the last release")
    return seconds(["update", "--quiet", "--trust", "--defaults"], project)


Taken = dict[str, list[tuple[float, float]]]


def measure(repetitions: int) -> Taken:
    """Return the seconds of each run of each kind, and print them."""
    # In memory, where that is possible: an update makes a thousand files, and it is not the disk that is measured.
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK):
        tempfile.tempdir = os.environ["TMPDIR"] = str(memory)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        small = one_file_template(folder / "small")
        whole, version = releases.clone(folder / "whole"), list(releases.releases())[-1]
        old = releases.generate(whole, version, folder / "old", profiles.PROFILES["default"])
        kinds: dict[str, Callable[[Path], tuple[float, float]]] = {
            "copy, one file": lambda path: copy(small, path, {"project_name": "Harbour Shop"}),
            "copy": lambda path: copy(whole, path, profiles.PROFILES["default"]),
            f"update from {version}": lambda path: update(path, old),
        }
        taken: Taken = {title: [] for title in kinds}
        sizes: dict[str, int] = {}
        # The first round warms the disk's cache and is not counted.
        for number in range(repetitions + 1):
            for position, (title, run) in enumerate(kinds.items()):
                destination = folder / f"{position}-{number}"
                both = run(destination)
                sizes[title] = len(rendering.files(destination))
                if number:
                    taken[title].append(both)
    print(f"{repetitions} runs of each kind in turn, whole processes, templates released from Git\n")
    print(f"{'run':<20}{'files':>6}{'median':>10}{'fastest':>10}{'slowest':>10}{'processor':>11}")
    for title, runs in taken.items():
        clock = [value for value, _ in runs]
        columns = (
            statistics.median(clock),
            min(clock),
            max(clock),
            statistics.median(value for _, value in runs),
        )
        print(f"{title:<20}{sizes[title]:>6}" + "{:>8.2f} s{:>8.2f} s{:>8.2f} s{:>9.2f} s".format(*columns))
    print()
    return taken


def ratio(what: str, runs: list[tuple[float, float]], others: list[tuple[float, float]], limit: float) -> bool:
    """Print the ratio of two kinds of runs and say whether it is within its limit."""
    clock, processor = (
        statistics.median(one[column] / other[column] for one, other in zip(runs, others, strict=True))
        for column in (0, 1)
    )
    print(f"{what}: {clock:.2f}, limit {limit} (of processor time: {processor:.2f})")
    return clock <= limit


def main() -> int:
    """Measure, print the table and the ratios, and fail above a limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repetitions", type=int, default=LEAST_REPETITIONS, help="runs of each kind (default: %(default)s)"
    )
    small, whole, updates = measure(max(parser.parse_args().repetitions, LEAST_REPETITIONS)).values()
    within = [
        ratio("copy / copy of one file", whole, small, LIMIT),
        ratio("update / copy", updates, whole, UPDATE_LIMIT),
    ]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
