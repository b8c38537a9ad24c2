"""Hostile answers: each is refused with a sentence, or what is rendered stays valid and means the literal text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests import profiles, rendering

# What people, spreadsheets and attackers type.
NASTY = [
    "$(touch /tmp/x)", "`id`", "${HOME}", "$HOME", "{{ 7*7 }}", "[[ 7*7 ]]", "[% raw %]", "[# c #]", "%{ if true }",
    "{$HOME}",
    "'", '"', "''", '""', "\\", "\\n", "a\nb", "a\r\nb", "\t", "\x00", "\x1b[31m", "\u2028", "\u202e", "\ufeff",
    "🚢", "Größe", "日本語",
    "yes", "no", "on", "null", "~", "true", "1e3", "0x1f", "0o17", "1_000", "12:30:45", "2026-01-01", "=1+1",
    "- item", "? key", "!ruby/object:X",
    "&anchor", "*alias", "# comment", "a: b", "a #b", "|", ">", "%YAML", "---", "...", "-rf", "--help", "../..",
    "/etc/passwd", "~root",
    "<script>alert(1)</script>", "[x](javascript:y)", "![x](y)", "a|b", "a;b", "a&&b", "a>b", "COM1", " lead",
    "trail ", "x" * 300, "",
]  # fmt: skip

FREE_TEXT = {
    name: details
    for name, details in profiles.questions().items()
    if details["type"] == "str" and "choices" not in details
}

nasty_text = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=40),
    st.builds("".join, st.lists(st.one_of(st.sampled_from(NASTY[:-2]), st.text(max_size=6)), min_size=1, max_size=4)),
    st.builds(
        lambda word, bad: word + bad,
        st.sampled_from(["shop", "web admin", "shop.example.com", "10.0.0.0/8"]),
        st.sampled_from(NASTY),
    ),
)


# Printable text of any script, the only kind that is not refused.
printable_title = nasty_text.map(lambda text: "".join(filter(str.isprintable, text)).strip()[:60]).filter(
    lambda text: any(character.isalnum() for character in text)
)


def answer_sets(hostile: st.SearchStrategy[dict[str, str]]) -> st.SearchStrategy[dict[str, Any]]:
    """Required answers, hostile ones in place of some, and choices that decide which files are rendered."""
    choices = st.fixed_dictionaries(
        {"proxy": st.sampled_from(["caddy", "nginx"]), "migrations": st.sampled_from(["sql_script", "ef_bundle"])}
    )
    return st.builds(lambda chosen, answers: {**profiles.REQUIRED, **chosen, **answers}, choices, hostile)


any_question = answer_sets(st.dictionaries(st.sampled_from(sorted(FREE_TEXT)), nasty_text, min_size=1, max_size=3))
only_the_title = answer_sets(st.fixed_dictionaries({"project_name": printable_title}))


# A refusal is Copier's own error with our sentence, or its word that a required answer is missing.
SENTENCE = re.compile(
    r"Validation error for question '\w+': [A-Z0-9'\"‘“/].{15,}\Z|Question \"\w+\" is required\Z", re.DOTALL
)


def shown_text(markdown: str) -> str:
    """Return what a reader of a Markdown line sees."""
    inline = MarkdownIt("commonmark").parseInline(markdown)[0].children or []
    assert {token.type for token in inline} <= {"text", "text_special"}, f"{markdown!r} is read as markup"
    return "".join(token.content for token in inline)


def assert_literal(project: Path, answers: dict[str, Any]) -> None:
    """Everything parses, and says exactly what was answered."""
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    for name, value in answers.items():
        # Copier leaves out a question that was not asked.
        if name in recorded:
            assert recorded[name] == value, name
            assert type(recorded[name]) is type(value), name
    compose = yaml.safe_load((project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8"))
    assert compose["name"] == recorded["compose_project"]
    for workflow in ("build", "infra"):
        assert yaml.safe_load((project / f".github/workflows/{workflow}.yml").read_text(encoding="utf-8"))["jobs"]
    facts = dict(
        line.split("=", 1)
        for line in (project / "infra/deploy.conf").read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert facts["APP"] == recorded["project_slug"]
    assert facts["IMAGE_REPOSITORY"] == recorded["image_repository"]
    readme = (project / "infra/README.md").read_text(encoding="utf-8")
    title = re.search(r"^The production side of (.*?)\. Staging and production", readme, re.MULTILINE)
    assert title, "infra/README.md no longer names the project in its first sentence"
    assert shown_text(title[1]) == answers["project_name"]


@given(answers=any_question)
def test_hostile_answers_are_refused_with_a_sentence_or_mean_the_literal_text(
    source: Path, tmp_path_factory: pytest.TempPathFactory, answers: dict[str, Any]
) -> None:
    project = tmp_path_factory.mktemp("hostile")
    try:
        rendering.render(source, project, answers)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert SENTENCE.match(refusal), f"not a sentence that helps: {refusal}"
        assert rendering.files(project) == [], "something was written before the answer was refused"
        event("refused")
    else:
        assert_literal(project, answers)
        event("rendered")


@settings(max_examples=settings().max_examples // 8)
@given(answers=only_the_title)
def test_a_printable_title_is_accepted_and_means_the_literal_text(
    source: Path, tmp_path_factory: pytest.TempPathFactory, answers: dict[str, Any]
) -> None:
    project = tmp_path_factory.mktemp("title")
    rendering.render(source, project, answers)
    assert_literal(project, answers)


@pytest.mark.parametrize(
    "title",
    [
        "🚢 Größe “Ω”",
        "a: b # c",
        "yes",
        "1e3",
        "$(id) `id` ${HOME}",
        "{{ 7*7 }} [[ 7*7 ]] [% raw %]",
        'O\'Brien "& Sons" \\',
        "<b>*_~|",
        "- x",
        "!x",
    ],
)
def test_a_title_of_printable_characters_is_kept_as_it_is(source: Path, tmp_path: Path, title: str) -> None:
    answers = {**profiles.REQUIRED, "project_name": title, "project_slug": "shop"}
    rendering.render(source, tmp_path, answers)
    assert_literal(tmp_path, answers)


def test_every_free_text_question_has_a_validator() -> None:
    assert [name for name, details in FREE_TEXT.items() if "validator" not in details] == []
