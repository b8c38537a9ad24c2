"""Renders the working tree's template in process, and describes folders so that tests can compare them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copier import run_copy

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]

# What Copier needs of this repository.
TEMPLATE_PATHS = ["copier.yml", "extensions", "migrations", "requirements", "template"]


def copy_template(destination: Path, root: Path = ROOT) -> Path:
    """Copy the template into a folder without Git: rendering from there takes a fraction of the time."""
    destination.mkdir(parents=True, exist_ok=True)
    for name in TEMPLATE_PATHS:
        source = root / name
        if not source.exists():
            continue
        if source.is_dir():
            shutil.copytree(source, destination / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, destination / name)
    return destination


def render(source: Path, destination: Path, answers: Mapping[str, Any], **options: Any) -> Path:  # noqa: ANN401
    """Copy the template as `copier copy --trust --defaults` does; `options` are those of `copier.run_copy`."""
    settings: dict[str, Any] = {"defaults": True, "overwrite": True, "quiet": True, "unsafe": True, **options}
    run_copy(str(source), destination, data=dict(answers), **settings)
    return destination


def files(folder: Path) -> list[str]:
    """List the files below a folder, Git's own excepted."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != ".git")
        relative = Path(parent).relative_to(folder)
        found += [(relative / name).as_posix() for name in names]
    return sorted(found)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return each file's executable bits and bytes."""
    return {name: ((folder / name).lstat().st_mode & 0o111, (folder / name).read_bytes()) for name in files(folder)}


def changes(before: Mapping[str, tuple[int, bytes]], after: Mapping[str, tuple[int, bytes]]) -> list[str]:
    """Name every difference between two states of a folder."""
    return [
        *(f"removed: {name}" for name in sorted(before.keys() - after.keys())),
        *(f"added: {name}" for name in sorted(after.keys() - before.keys())),
        *(f"changed: {name}" for name in sorted(before.keys() & after.keys()) if before[name] != after[name]),
    ]
