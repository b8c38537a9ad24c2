"""Slipway's own documents: links lead somewhere, commands exist, and what is generated from the questions is fresh."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from docs import gallery
from tests import golden, rendering
from tests.docs import reading
from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROOT = rendering.ROOT
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_anchor_leads_somewhere(document: Path) -> None:
    broken = []
    for text, target in reading.links(document):
        address = urlsplit(target)
        if address.scheme:
            assert address.scheme == "https", target
            continue
        path = (document.parent / unquote(address.path)).resolve() if address.path else document
        if not path.exists() or (address.fragment and unquote(address.fragment) not in reading.anchors(path)):
            broken.append(f"[{text}]({target})")
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    code = re.findall(r"`([^`]+)`", document.read_text(encoding="utf-8"))
    code += [block.code for block in reading.blocks(document)]
    named = {name for text in code for name in re.findall(r"^make ([a-z][a-z-]*)", text, re.MULTILINE)}
    assert named - targets == set()


def test_the_tree_in_the_readme_is_what_is_generated() -> None:
    [tree] = [block.code for block in reading.blocks(ROOT / "README.md") if "docker-compose.prod.yml" in block.code]
    generated = {file for name in golden.NAMES for file in rendering.files(golden.FOLDER / name)}
    folder = ""
    for line in tree.splitlines():
        indented = line.startswith("  ")
        for name in re.split(r"\s{2,}", line.strip())[:-1] if "  " in line.strip() else [line.strip()]:
            path = (folder if indented else "") + name
            pattern = re.compile(re.escape(path).replace(r"\*", "[^/]+"))
            assert any(pattern.match(file) for file in generated), f"{path} is not generated"
        if line.strip().split()[0].endswith("/") and not indented:
            folder = line.split()[0]
    for folder, suffix in (("bin/", ""), (".github/workflows/", ".yml")):
        [line] = [line.strip() for line in tree.splitlines() if line.strip().startswith(folder)]
        named = re.sub(r"\(.*?\)|…", "", line.removeprefix(folder)).replace(",", " ").split()
        assert {
            each for each in named if not any(file.endswith(f"{folder}{each}{suffix}") for file in generated)
        } == set()


def test_the_reference_of_questions_is_fresh() -> None:
    before = (ROOT / "docs/questions.md").read_text(encoding="utf-8")
    show = "import pathlib, generate; print(generate.page(pathlib.Path('../copier.yml').read_text()), end='')"
    page = run([sys.executable, "-c", show], cwd=ROOT / "docs").stdout
    assert page == before, "run `make docs`"


def test_the_gallery_is_fresh(rendered: Callable[[str], Path]) -> None:
    assert gallery.page(rendered) == gallery.TARGET.read_text(encoding="utf-8"), "run `make docs`"
