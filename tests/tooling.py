"""Finds and runs the programs that the tests need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REPO = Path(__file__).resolve().parent.parent
"""This repository's root."""

TOOL_FOLDERS = (Path(sys.executable).parent, REPO / ".cache" / "tools" / "bin")
"""Where programs of a known version are: from requirements/dev.txt, and from .ci/install-tools."""


def in_ci() -> bool:
    """Tell whether a missing program is an error, because a skipped check would look like a passed one."""
    return os.environ.get("CI") == "true"


def search_path() -> str:
    """Give a PATH on which our own programs come before the machine's."""
    return os.pathsep.join([*map(str, TOOL_FOLDERS), os.environ.get("PATH", os.defpath)])


def find(tool: str) -> Path | None:
    """Find a program in the virtual environment, in .cache/tools/bin, or on PATH."""
    found = shutil.which(tool, path=search_path())
    return Path(found) if found else None


def unavailable(reason: str) -> NoReturn:
    """Skip the running test, or fail it in CI.

    Args:
        reason: What is missing and how to get it, as a sentence.
    """
    if in_ci():
        pytest.fail(f"{reason} (in CI this check must run)", pytrace=False)
    pytest.skip(reason)


def require(tool: str, *, version: str | None = None, version_args: Sequence[str] = ("--version",)) -> Path:
    """Find a program, or skip the running test with a plain reason (in CI: fail it).

    Args:
        tool: The program's name, for example "nginx".
        version: The oldest version that will do, for example "2.24".
        version_args: What makes the program print its version.

    Returns:
        The program's absolute path.
    """
    program = find(tool)
    if program is None:
        unavailable(f"{tool} is not installed: run .ci/install-tools")
    if version is not None:
        present = _version_of(program, tuple(version_args))
        if _numbers(present) < _numbers(version):
            told = present or "(unknown version)"
            unavailable(f"{tool} {told} is older than {version}: run .ci/install-tools")
    return program


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002 - the name that subprocess uses
    check: bool = True,
    timeout: float | None = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a program and capture what it prints.

    Args:
        argv: The program and its arguments. A bare name is looked up like `find` does.
        cwd: The folder to run in.
        env: Variables to add to, or replace in, the present environment.
        input: Text for its standard input; without it the input is empty.
        check: Whether an exit code other than 0 is an error.
        timeout: Seconds after which it is killed and the test fails; None means never.

    Returns:
        The finished process with stdout and stderr as text.

    Raises:
        AssertionError: The program failed or did not end; the message shows what it printed.
    """
    environment = {**os.environ, "PATH": search_path(), **(env or {})}
    command = [str(part) for part in argv]
    command[0] = shutil.which(command[0], path=environment["PATH"]) or command[0]
    try:
        result = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"did not end within {timeout} s"
        raise AssertionError(_told(argv, message, _text(error.stdout), _text(error.stderr))) from None
    if check and result.returncode != 0:
        raise AssertionError(_told(argv, f"exit code {result.returncode}", result.stdout, result.stderr))
    return result


def actionlint(workflows: Iterable[Path], *options: str | Path) -> None:
    """Check workflows, each with the names of its project's own runners."""
    groups: dict[Path | None, list[Path]] = {}
    for workflow in workflows:
        labels = workflow.parents[1] / "actionlint.yaml"
        groups.setdefault(labels if labels.exists() else None, []).append(workflow)
    for config, files in groups.items():
        known: list[str | Path] = ["-config-file", config] if config else []
        run([require("actionlint"), "-no-color", *options, *known, *files])


def _text(captured: str | bytes | None) -> str:
    """Turn what a killed process had printed into text."""
    return captured.decode(errors="replace") if isinstance(captured, bytes) else captured or ""


def _told(argv: Sequence[str | Path], outcome: str, stdout: str, stderr: str) -> str:
    """Word a failure so that nobody has to run the command again to understand it."""
    command = " ".join(str(part) for part in argv)
    return f"{command}: {outcome}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}"


def _version_of(program: Path, version_args: tuple[str, ...]) -> str:
    """Ask a program for its version."""
    told = run([program, *version_args], check=False, timeout=60)
    match = re.search(r"\d+(?:\.\d+)+", told.stdout + told.stderr)
    return match.group() if match else ""


def _numbers(version: str) -> tuple[int, ...]:
    """Make versions comparable: 2.24 is older than 2.101."""
    return tuple(int(part) for part in re.findall(r"\d+", version))
