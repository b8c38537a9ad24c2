"""The laboratory for pytest; the live tests' ``conftest.py`` takes its fixtures from here.

Without an engine the live tests are skipped with a sentence, and fail where CI=true: there they must run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import pytest

from tests.lab import engine as engines
from tests.lab import images
from tests.lab.figures import Figures
from tests.lab.project import Project, project
from tests.lab.registry import Registry
from tests.lab.registry import registry as new_registry

Shown = Callable[[], AbstractContextManager[None]]
RunProject = Callable[[Path, Mapping[str, str]], Project]


@pytest.fixture(scope="session")
def shown(request: pytest.FixtureRequest) -> Shown:
    """A context manager in which progress is seen although pytest captures output."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return nullcontext
    allowed: Shown = capture.global_and_fixture_disabled
    return allowed


@pytest.fixture(scope="session")
def engine(shown: Shown) -> Iterator[None]:
    """A Docker engine, for every test that needs one; stopped at the end if the laboratory started it.

    SIGTERM ends the run as Ctrl-C does, so that everything is still taken down.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ExitStack() as held:
        try:
            with shown():
                held.enter_context(engines.use())
        except engines.EngineMissing as missing:
            if os.environ.get("CI") == "true":
                pytest.fail(f"live tests must run in CI: {missing}", pytrace=False)
            pytest.skip(str(missing))
        yield
        with shown():
            held.close()


@pytest.fixture(scope="session")
def image(engine: None, shown: Shown) -> Callable[[str], str]:  # noqa: ARG001
    """``image("postgres:17")``: the reference of a stand-in, built now unless it is there already."""

    def ensure(name: str) -> str:
        with shown():
            return images.ensure(name)

    return ensure


@pytest.fixture(scope="session")
def app_image(engine: None, shown: Shown) -> Callable[..., str]:  # noqa: ARG001
    """``app_image("api", "2", behaviour="never-healthy")``: a build of a stand-in application, see ``images.app``."""

    def build(kind: str, version: str = "1", **choices: str) -> str:
        with shown():
            return images.app(kind, version, **choices)

    return build


@pytest.fixture(scope="session")
def figures(shown: Shown) -> Iterator[Figures]:
    """What the tests measure; shown at the end of the run."""
    measured = Figures()
    yield measured
    with shown():
        measured.publish()


@pytest.fixture(scope="session")
def registry(engine: None) -> Iterator[Registry]:  # noqa: ARG001
    """A registry for the whole run."""
    with new_registry() as running:
        yield running


@pytest.fixture
def run_project(engine: None) -> Iterator[RunProject]:  # noqa: ARG001
    """``run_project(path, env)``: a rendered project, removed with its volumes after the test."""
    with ExitStack() as held:
        yield lambda path, env: held.enter_context(project(path, env))
