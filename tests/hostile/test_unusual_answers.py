"""Answers that are right but unusual, all questions at once: every program reads what is rendered."""

from __future__ import annotations

import re
import shutil
import string
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests import answers, profiles, rendering
from tests.proxy import programs
from tests.tooling import actionlint, in_ci, require, run

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = [
    "\"", "'", "\\", "`id`", "$(id)", "${HOME}", "${{ secrets.X }}", "$HOME", "$$", "{{ x }}", "{{", "}}", "[[",
    "]]", "[[ 1 ]]", "[%", "%]", "[#", "#]", "%{if x}", "{$API_HOSTNAME}", "{env.HOME}", "{% raw %}", "\n", "\r\n",
    "\t", "\0", "\u2028", "yes", "no", "null", "~", "1e3", "0x1f", "1_000", "012", "1:30", "2026-01-01", ".inf",
    "- ", "-", "--help", "-rf", "!ruby/object:X", "!!python/none", "&a", "*a", "? ", ": ", " #", "#", "|", ">", "@",
    "%", "<script>", "&amp;", "<!-- ", "[x](y)", "![x](y)", "**x**", "_x_", "://", "../", "/", "..", ";", "&&",
    "||", "\u202e", "é", "☃", "𝒳", "İ", "ß", " ", "x" * 300, "=", "EOF", "'; DROP TABLE x; --",
]  # fmt: skip

# In the name of every project, so that the places where it is rendered are found.
MARK = "☃7"

domains = st.builds(
    lambda labels, top: ".".join([*labels, top]),
    st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True), min_size=1, max_size=3),
    st.sampled_from(["com", "example", "io", "xn--p1ai"]),
)
slugs = st.from_regex(r"[a-z][a-z0-9]{1,8}(-[a-z0-9]{1,6}){0,2}", fullmatch=True)

# What is usually right for each question; a few are refused nevertheless, such as a front end called `api`.
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "project_slug": slugs,
    "compose_project": st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
    | st.sampled_from(["1e3", "yes", "null", "012", "0x1f", "1_000", "no", "on", "0"]),
    "github_repository": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9]{0,9}/[A-Za-z0-9._-]{2,12}", fullmatch=True),
    "dotnet_solution": st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}(\.[A-Z][a-z]{0,5}){0,2}", fullmatch=True),
    "frontends": st.lists(slugs, max_size=3, unique=True).map(" ".join),
    "production_domain": domains,
    "staging_domain": domains,
    "acme_email": st.builds(
        "{}@{}".format, st.from_regex(r"[a-z0-9]([a-z0-9._+-]{0,8}[a-z0-9])?", fullmatch=True), domains
    ),
    "admin_networks": st.sampled_from(["203.0.113.7/32", "198.51.100.0/24, 2001:db8::/32", "10.0.0.0/8"]),
    "image_repository": st.builds("{}/{}".format, domains, slugs),
    "backup_schedule": st.sampled_from(["17 2 * * *", "*/5 1-3,7 * 1-12/2 0", "0 0 29 2 *"]),
    "backup_keep_daily": st.integers(1, 366),
    "backup_keep_weekly": st.integers(0, 520),
    "backup_keep_monthly": st.integers(0, 120),
}
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "proxy": st.sampled_from(["caddy", "nginx"]),
        "worker": st.booleans(),
        "hosting_provider": st.sampled_from(["ovh", "other"]),
        "decisions_dir": st.sampled_from(["docs/adr", "docs/decisions"]),
        "migrations": st.sampled_from(["sql_script", "ef_bundle"]),
    },
)
hostile_text = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=8), min_size=1, max_size=4).map("".join)
titles = st.builds("{}{}{}".format, hostile_text, st.just(MARK), hostile_text)


@st.composite
def strange_but_right(draw: st.DrawFn) -> dict[str, Any]:
    """Answers in which the project's name is hostile and everything else is right, though unusual."""
    title = draw(titles.filter(lambda text: text.isprintable() and len(text) <= 60 and text == text.strip()))
    return {**profiles.REQUIRED, **draw(st.fixed_dictionaries(RIGHT)), **draw(CHOICES), "project_name": title}


def problem(source: Path, project: Path, given_answers: dict[str, Any]) -> str:
    """Render, and return the sentence of the refusal, if there was one. Any other error is one of the template."""
    try:
        rendering.render(source, project, given_answers, skip_tasks=True)
    except ValueError as error:
        return str(error)
    return ""


def assert_is_a_sentence(refusal: str) -> None:
    """A refusal names the question and says what to type instead; it is no error of a parser or of Jinja."""
    match = re.fullmatch(
        r"Validation error for question '(\w+)': (?P<sentence>[^\n].*[.:/A-Za-z0-9*+#-])", refusal, re.DOTALL
    )
    assert match, refusal
    assert not re.search(r"Traceback|Error\b|undefined|codec|jinja|unhashable|NoneType", match["sentence"]), refusal


def text_of_markdown(text: str) -> str:
    """Return what a reader of the rendered Markdown sees."""
    tokens = MarkdownIt("commonmark").parse(text)
    return "\n".join(
        "".join(
            child.content for child in token.children or [] if child.type in {"text", "text_special", "code_inline"}
        )
        for token in tokens
        if token.type == "inline"
    )


def assert_means_the_literal_text(project: Path, given_answers: dict[str, Any]) -> None:
    recorded = answers.recorded(project)
    for name, value in given_answers.items():
        if name in recorded:
            assert recorded[name] == value
            assert type(recorded[name]) is type(value)
    for file in rendering.files(project):
        text = (project / file).read_text(encoding="utf-8")
        if file.endswith((".yml", ".yaml")):
            yaml.safe_load(text)
        if MARK in text:
            assert file in {"infra/README.md", ".copier-answers.yml"}, f"the project's name is in {file}"
    readme = text_of_markdown((project / "infra/README.md").read_text(encoding="utf-8"))
    assert f"The production side of {given_answers['project_name']}. " in readme
    compose = yaml.safe_load((project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8"))
    assert compose["name"] == recorded["compose_project"]
    assert isinstance(compose["name"], str)
    facts = dict(
        line.split("=", 1)
        for line in (project / "infra/deploy.conf").read_text().splitlines()
        if re.match(r"\w+=", line)
    )
    assert facts["APP"] == recorded["project_slug"]
    assert facts["COMPOSE_PROJECT"] == recorded["compose_project"]
    assert facts["PRODUCTION_DOMAIN"] == recorded["production_domain"]
    assert facts["STAGING_DOMAIN"] == recorded["staging_domain"]
    assert facts["IMAGE_REPOSITORY"] == recorded["image_repository"]
    harmless = set(string.ascii_letters + string.digits + "./:_@+=- ")
    assert all(set(value) <= harmless for value in facts.values())
    assert set(rendering.files(project)) == answers.expected_files(recorded)


def test_any_printable_name_with_unusual_answers_is_accepted_and_every_tool_reads_the_result(
    source: Path, tmp_path: Path
) -> None:
    kept: list[Path] = []
    accepted = refused = 0

    @settings(max_examples=80 if in_ci() else 15)
    @given(given_answers=strange_but_right())
    def try_it(given_answers: dict[str, Any]) -> None:
        nonlocal accepted, refused
        project = tmp_path / "project"
        shutil.rmtree(project, ignore_errors=True)
        refusal = problem(source, project, given_answers)
        if refusal:
            refused += 1
            assert_is_a_sentence(refusal)
            assert "project_name" not in refusal
            return
        accepted += 1
        assert_means_the_literal_text(project, given_answers)
        if accepted % 8 == 1:
            kept.append(shutil.copytree(project, tmp_path / f"kept-{accepted}"))

    try_it()
    assert accepted > refused, "the answers that should be right are mostly refused"
    assert kept
    require("docker-compose", version="2.24", version_args=["version"])
    for project in kept:
        run(
            [
                "docker",
                "compose",
                "--env-file",
                "infra/check.env",
                "-f",
                "infra/docker-compose.prod.yml",
                "config",
                "-q",
            ],
            cwd=project,
        )
        baked = run(["docker", "buildx", "bake", "-f", "infra/docker-bake.hcl", "--print"], cwd=project)
        assert answers.recorded(project)["image_repository"] + "-api:" in baked.stdout
        if (project / "infra/Caddyfile").is_file():
            variables = programs.environment(answers.front_ends(answers.recorded(project)))
            run(["caddy", "validate", "--adapter=caddyfile", "--config", project / "infra/Caddyfile"], env=variables)
    workflows = [path for project in kept for path in project.glob(".github/workflows/*.yml")]
    actionlint(workflows, "-shellcheck=")
