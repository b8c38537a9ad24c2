"""How long a copy of the default profile takes, as a ratio to copying a template of one file (`make bench`).

Whole processes of `copier copy`, one of each kind in turn, so that a busy machine slows both alike. Both templates are
Git repositories with a release, as the ones that people copy from. Fails when the median of the pairs' ratios
is above the limit.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import profiles, rendering

LIMIT = 1.8
LEAST_REPETITIONS = 15


def one_file_template(folder: Path) -> Path:
    """Make the smallest template that could be of use: one question, one file."""
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: template\nproject_name:\n  type: str\n", encoding="utf-8")
    (folder / "template" / "README.md.jinja").write_text("# {{ project_name }}\n", encoding="utf-8")
    return folder


def released(template: Path) -> Path:
    """Commit and tag a template."""
    identity = ["-c", "user.name=Slipway bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "release"], ["tag", "v1.0.0"]):
        subprocess.run(["git", "-C", str(template), *identity, *arguments], check=True)
    return template


def processor_seconds() -> float:
    """Return the processor time of all finished child processes: a busy machine changes it little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def copy(template: Path, destination: Path, answers: dict[str, str]) -> tuple[float, float]:
    """Run one copy and return its seconds: by the clock, and of the processor."""
    data = [argument for name, value in answers.items() for argument in ("--data", f"{name}={value}")]
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--trust", "--defaults", *data]
    start, processor = time.perf_counter(), processor_seconds()
    subprocess.run([*command, str(template), str(destination)], check=True, capture_output=True)
    return time.perf_counter() - start, processor_seconds() - processor


def measure(repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each copy of either template, and print them."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        templates = {
            "one file": (released(one_file_template(folder / "small")), {"project_name": "Harbour Shop"}),
            "Slipway, default": (released(rendering.copy_template(folder / "whole")), profiles.PROFILES["default"]),
        }
        seconds: dict[str, list[tuple[float, float]]] = {title: [] for title in templates}
        sizes: dict[str, int] = {}
        # The first round warms the disk's cache and is not counted.
        for number in range(repetitions + 1):
            for title, (template, answers) in templates.items():
                destination = folder / f"{template.name}-{number}"
                taken = copy(template, destination, answers)
                sizes[title] = len(rendering.files(destination))
                if number:
                    seconds[title].append(taken)
    print(f"{repetitions} copies of each kind in turn, whole processes, templates released from Git\n")
    print(f"{'template':<20}{'files':>6}{'median':>10}{'fastest':>10}{'slowest':>10}{'processor':>11}")
    for title, taken_by_all in seconds.items():
        clock = [value for value, _ in taken_by_all]
        columns = (
            statistics.median(clock),
            min(clock),
            max(clock),
            statistics.median(value for _, value in taken_by_all),
        )
        print(f"{title:<20}{sizes[title]:>6}" + "{:>8.2f} s{:>8.2f} s{:>8.2f} s{:>9.2f} s".format(*columns))
    return seconds


def main() -> int:
    """Measure, print the table and the ratio, and fail above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repetitions", type=int, default=LEAST_REPETITIONS, help="copies of each kind (default: %(default)s)"
    )
    small, whole = measure(max(parser.parse_args().repetitions, LEAST_REPETITIONS)).values()
    ratio, processor_ratio = (
        statistics.median(one[column] / other[column] for one, other in zip(whole, small, strict=True))
        for column in (0, 1)
    )
    print(f"\nratio {ratio:.2f}, limit {LIMIT} (of processor time: {processor_ratio:.2f})")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
