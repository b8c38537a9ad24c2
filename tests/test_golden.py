"""The golden projects are what the template renders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import golden, rendering


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_golden_project_is_what_the_template_renders(name: str, source: Path, tmp_path: Path) -> None:
    rendered = golden.render(source, name, tmp_path / name)
    difference = rendering.changes(rendering.contents(golden.FOLDER / name), rendering.contents(rendered))
    assert difference == [], "the template changed what it generates: run `make golden` and read the difference"


def test_every_file_of_the_template_is_in_a_golden_project(rendered_everywhere: set[str]) -> None:
    golden_files = {file for name in golden.NAMES for file in rendering.files(golden.FOLDER / name)}
    assert rendered_everywhere <= golden_files


@pytest.fixture
def rendered_everywhere() -> set[str]:
    """The static files of the template: those without a condition or a name that is computed."""
    names = rendering.files(rendering.ROOT / "template")
    return {name.removesuffix(".jinja") for name in names if "[[" not in name and "[%" not in name}
