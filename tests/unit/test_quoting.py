"""Quoted text means the same literal string where it lands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import quoting
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.tooling import require, run

LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)


@given(LINE)
def test_a_yaml_string_is_read_back_as_the_same_text(value: str) -> None:
    assert yaml.safe_load(f"key: {quoting.yaml_string(value)}") == {"key": value}


@given(LINE.map(str.strip).filter(bool))
def test_markdown_text_is_shown_as_the_same_text_and_nothing_else(value: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"x{quoting.markdown_text(value)}x")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == f"x{value}x"


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("plain", '"plain"'),
        ('say "hi"', r'"say \"hi\""'),
        ("${var.secret}", '"$${var.secret}"'),
        ("%{ if true }", '"%%{ if true }"'),
        ("back\\slash", r'"back\\slash"'),
        ("Größe", '"Größe"'),
    ],
)
def test_hcl_strings_hold_no_template(value: str, quoted: str) -> None:
    assert quoting.hcl_string(value) == quoted


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Harbour Shop", "harbour-shop"),
        ("Größe & Söhne", "groe-sohne"),
        ("42 Boats", "boats"),
        ("日本語", "app"),
        ("x", "app"),
        ("a" * 80, "a" * 40),
    ],
)
def test_a_title_proposes_a_slug_that_is_valid(title: str, slug: str) -> None:
    assert quoting.slug(title) == slug


@given(LINE)
def test_whatever_the_title_the_proposed_slug_is_valid(title: str) -> None:
    import validators

    assert validators.problem_with_slug(quoting.slug(title)) == ""
    assert validators.problem_with_dotnet_name(quoting.pascal(quoting.slug(title))) == ""


AWKWARD = [
    "${var}",
    "$${var}",
    "$$$${x}",
    "%{if x}",
    "%%{ for",
    "\\",
    'a "quote"',
    "\\n",
    "// x",
    "/* x",
    "<<EOF",
    "é☃𝒳",
    "$",
    "%",
    "{{",
    "[[",
]


def test_hcl_reads_a_string_back_as_the_same_text(tmp_path: Path) -> None:
    """Bake is the program that reads the HCL that is generated."""
    require("docker-compose")  # comes with buildx
    text = "".join(
        f'target "t{number}" {{\n  labels = {{ value = {quoting.hcl_string(value)} }}\n}}\n'
        for number, value in enumerate(AWKWARD)
    )
    (tmp_path / "bake.hcl").write_text(text, encoding="utf-8")
    names = [f"t{number}" for number in range(len(AWKWARD))]
    told = run(["docker", "buildx", "bake", "-f", "bake.hcl", "--print", *names], cwd=tmp_path)
    found = json.loads(told.stdout)["target"]
    # What bake prints can be read by it again, so there it escapes what begins a template.
    printed = [value.replace("${", "$${").replace("%{", "%%{") for value in AWKWARD]
    assert [found[name]["labels"]["value"] for name in names] == printed
