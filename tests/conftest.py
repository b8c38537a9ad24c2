"""Fixtures of the whole suite: the template's source, and projects rendered from it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests import profiles, rendering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# What is made up in CI is the same in every run of it; on a developer's machine each run tries something new.
COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "phases": [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
}
settings.register_profile("ci", max_examples=500, derandomize=True, database=None, **COMMON)
settings.register_profile("local", max_examples=60, **COMMON)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Folders that are made once for all workers of pytest-xdist: `shared(NAME, MAKE)`."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # Each worker has a folder of its own below this one.

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        final = base / "shared" / name
        if not final.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            ready = tmp_path_factory.mktemp("making") / final.name
            make(ready)
            # Another worker may have been faster; its folder is the same.
            with contextlib.suppress(OSError):
                ready.rename(final)
        return final

    return folder


@pytest.fixture(scope="session")
def source(shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The working tree's template in a folder without Git."""
    return shared("template", rendering.copy_template)


@pytest.fixture(scope="session")
def rendered(source: Path, shared: Callable[[str, Callable[[Path], object]], Path]) -> Iterator[Callable[[str], Path]]:
    """Projects by name of their answers, each rendered once. They are shared: copy one before you change it."""
    answers = profiles.combinations_by_name()
    states: dict[str, dict[str, tuple[int, bytes]]] = {}

    def project(name: str) -> Path:
        path = shared(f"projects/{name}", lambda folder: rendering.render(source, folder, answers[name]))
        if name not in states:
            states[name] = rendering.contents(path)
        return path

    yield project
    for name, state in states.items():
        assert rendering.changes(state, rendering.contents(project(name))) == [], (
            f"a test changed the shared project {name}"
        )


@pytest.fixture(scope="session")
def copier_template_paths() -> list[str]:
    """What pytest-copier takes as the template."""
    return rendering.TEMPLATE_PATHS


@pytest.fixture
def copier_defaults() -> dict[str, Any]:
    """The answers that pytest-copier gives when a test does not say otherwise."""
    return dict(profiles.REQUIRED)
