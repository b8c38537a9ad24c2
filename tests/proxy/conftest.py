"""Fixtures: each proxy once for a whole test file, so that every assertion runs against both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.proxy import programs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=programs.PROXIES)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[programs.Proxy]:
    """A running proxy of a project with one front end; the blue slots run."""
    running = programs.start(request.param, tmp_path_factory.mktemp(request.param))
    try:
        running.start_slots("api-blue", "web-blue")
        yield running
    finally:
        running.stop()
