"""Live tests run real servers in the laboratory (``tests/lab``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import profiles, rendering
from tests.lab.fixtures import app_image, engine, figures, image, registry, run_project, shown

__all__ = ["app_image", "engine", "figures", "image", "registry", "run_project", "shown"]


@pytest.fixture
def render(source: Path, tmp_path: Path) -> Callable[[Mapping[str, Any]], Path]:
    """`render(answers)`: a generated project under a Compose name of this test's own."""

    def project(answers: Mapping[str, Any]) -> Path:
        name = "slipway-lab-" + "".join(filter(str.isalnum, tmp_path.name.lower()))[-40:]
        return rendering.render(source, tmp_path / "project", {**profiles.REQUIRED, "compose_project": name, **answers})

    return project
