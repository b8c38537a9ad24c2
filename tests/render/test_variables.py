"""`.env.example` names exactly the variables that something reads, and gives no value away."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests import answers, profiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMBINATIONS = list(profiles.combinations_by_name())

# ${NAME}, ${NAME:-default}, ${NAME:?sentence} and $NAME; $$ is Compose's way to write a dollar sign.
VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?P<operator>:?[-?+])?|(?P<plain>[A-Za-z_]\w*))")


def variables_of_compose(text: str) -> dict[str, bool]:
    """Return each variable of a Compose file, nested ones included, and whether it is required."""
    found: dict[str, bool] = {}
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for match in VARIABLE.finditer(code.replace("$$", "")):
        name = match["braced"] or match["plain"]
        found[name] = found.get(name, False) or match["operator"] in {":?", "?"}
    return found


def lines_of_example(text: str) -> dict[str, bool]:
    """Return each variable of `.env.example` and whether it is required (not commented out)."""
    return {
        match["name"]: not match["optional"]
        for match in re.finditer(r"^(?P<optional># )?(?P<name>[A-Z][A-Z0-9_]*)=", text, re.MULTILINE)
    }


def variables_of_scripts(folder: Path) -> set[str]:
    """Return the settings that the scripts look up in the server's `.env` themselves."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    return set(re.findall(r'value "\$app/\.env" ([A-Z_]+)', text))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_it_lists_what_compose_and_the_scripts_read_required_and_optional(
    rendered: Callable[[str], Path], name: str
) -> None:
    project = rendered(name)
    read = variables_of_compose((project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8"))
    read = dict.fromkeys(variables_of_scripts(project / "infra/bin"), False) | read
    listed = lines_of_example((project / ".env.example").read_text(encoding="utf-8"))
    assert listed == read


@pytest.mark.parametrize("name", COMBINATIONS)
def test_it_names_each_variable_once_without_a_value_and_says_what_it_is(
    rendered: Callable[[str], Path], name: str
) -> None:
    explained = False
    seen = []
    for line in (rendered(name) / ".env.example").read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"(?:# )?(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)", line)
        if match:
            assert match["value"] == "", "a value in .env.example would be taken for a good one"
            assert explained, f"{match['name']} has no line that says what it is"
            seen.append(match["name"])
        else:
            # A group of variables shares the line above it.
            explained = line.startswith("# ") and not line.startswith("# ──")
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_proxy_is_given_every_variable_that_its_configuration_reads(
    rendered: Callable[[str], Path], name: str
) -> None:
    project = rendered(name)
    proxy = answers.recorded(project)["proxy"]
    text = (project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8")
    service = re.search(rf"\n  {proxy}:\n(?P<body>(?:    .*\n|\n)+)", text)
    assert service
    environment = re.search(r"\n    environment:\n(?P<body>(?:      .*\n)+)", service["body"])
    assert environment
    given = set(re.findall(r"^      ([A-Z_0-9]+):", environment["body"], re.MULTILINE))
    if proxy == "caddy":
        read = set(
            re.findall(r"\{\$([A-Z_0-9]+)(?::[^}]*)?\}", (project / "infra/Caddyfile").read_text(encoding="utf-8"))
        )
    else:
        configuration = (project / "infra/nginx.conf").read_text(encoding="utf-8")
        read = set(re.findall(r"\$\{([A-Z_0-9]+)\}", re.sub(r"(?m)^\s*#.*$", "", configuration)))
    assert read == given


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_fixture_of_the_checks_has_every_required_variable_and_no_unknown_one(
    rendered: Callable[[str], Path], name: str
) -> None:
    project = rendered(name)
    listed = lines_of_example((project / ".env.example").read_text(encoding="utf-8"))
    fixture = dict(
        re.findall(r"^([A-Z][A-Z0-9_]*)=(.+)$", (project / "infra/check.env").read_text(encoding="utf-8"), re.M)
    )
    assert {name for name, required in listed.items() if required} <= fixture.keys() <= listed.keys()


def test_scripts_read_facts_that_deploy_conf_has(rendered: Callable[[str], Path]) -> None:
    for name in ("default", "everything", "managed-database"):
        project = rendered(name)
        facts = set(
            re.findall(r"^([A-Z][A-Z0-9_]*)=", (project / "infra/deploy.conf").read_text(encoding="utf-8"), re.M)
        )
        scripts = "\n".join(path.read_text(encoding="utf-8") for path in (project / "infra/bin").iterdir())
        scripts = re.sub(r"(?m)^\s*#.*$", "", scripts)
        wanted = set(re.findall(r"\bfact ([A-Z][A-Z0-9_]*)\b", scripts))
        assert wanted
        assert wanted <= facts
