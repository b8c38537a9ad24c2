"""Tools that nobody here wrote find nothing in what is generated.

Files that are the same in many projects are read once, and a tool that takes many files gets them in one process: the
whole set is some three thousand files otherwise.
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests import answers, profiles
from tests.proxy import programs
from tests.tooling import actionlint, require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def projects(rendered: Callable[[str], Path]) -> list[Path]:
    """A project for every combination of answers."""
    return [rendered(name) for name in profiles.combinations_by_name()]


def different(projects: list[Path], *patterns: str) -> list[Path]:
    """Find the files of these names in all projects, each content once."""
    found: dict[bytes, Path] = {}
    for project in projects:
        for pattern in patterns:
            for path in sorted(project.glob(pattern)):
                found.setdefault(path.name.encode() + b"\0" + path.read_bytes(), path)
    assert found, f"no project has {patterns}"
    return list(found.values())


def test_shellcheck(projects: list[Path]) -> None:
    scripts = different(projects, "infra/bin/*", "infra/custom/test")
    run([require("shellcheck"), "--external-sources", *scripts])


def test_bash_reads_every_script(projects: list[Path]) -> None:
    for script in different(projects, "infra/bin/*", "infra/custom/test"):
        run(["bash", "-n", script])


def test_hadolint(projects: list[Path]) -> None:
    # As infra/bin/check does: distributions drop old versions of packages, and Compose sets the user.
    ignored = [f"--ignore={rule}" for rule in ("DL3008", "DL3018", "DL3066")]
    run(
        [
            require("hadolint"),
            "--no-color",
            "--failure-threshold=style",
            *ignored,
            *different(projects, "Dockerfile.*", "infra/pgbackrest/Dockerfile"),
        ]
    )


def test_yamllint(projects: list[Path]) -> None:
    files = different(
        projects,
        "infra/docker-compose.prod.yml",
        "infra/custom/compose.yml",
        ".github/workflows/*.yml",
        ".pre-commit-config.yaml",
        ".copier-answers.yml",
    )
    rules = (
        "{extends: default, rules: {line-length: disable, document-start: disable, truthy: {check-keys: false},"
        " comments: {min-spaces-from-content: 1}, comments-indentation: disable, braces: {max-spaces-inside: 1},"
        " indentation: {indent-sequences: consistent}}}"
    )
    generated_by_copier = [path for path in files if path.name == ".copier-answers.yml"]
    run([require("yamllint"), "--strict", "--config-data", rules, *(set(files) - set(generated_by_copier))])
    relaxed = "{extends: relaxed, rules: {line-length: disable, indentation: disable}}"
    run([require("yamllint"), "--strict", "--config-data", relaxed, *generated_by_copier])


@pytest.mark.parametrize(
    ("schema", "patterns"),
    [
        ("vendor.compose-spec", ("infra/docker-compose.prod.yml", "infra/custom/compose.yml")),
        ("vendor.github-workflows", (".github/workflows/*.yml",)),
    ],
)
def test_the_published_schema(projects: list[Path], schema: str, patterns: tuple[str, ...]) -> None:
    run([require("check-jsonschema"), "--builtin-schema", schema, *different(projects, *patterns)])


def test_actionlint(projects: list[Path]) -> None:
    actionlint(different(projects, ".github/workflows/*.yml"), "-shellcheck", require("shellcheck"))


def test_zizmor_as_a_pedant(projects: list[Path]) -> None:
    workflows = different(projects, ".github/workflows/*.yml")
    run(
        [
            require("zizmor"),
            "--offline",
            "--persona=pedantic",
            "--strict-collection",
            "--no-progress",
            "--quiet",
            *workflows,
        ]
    )


def test_pre_commit_reads_its_configuration(projects: list[Path]) -> None:
    run([require("pre-commit"), "validate-config", *different(projects, ".pre-commit-config.yaml")])


def test_docker_buildx_bake(projects: list[Path]) -> None:
    require("docker-compose")  # comes with buildx
    for file in different(projects, "infra/docker-bake.hcl"):
        project = file.parents[1]
        told = run(["docker", "buildx", "bake", "-f", "infra/docker-bake.hcl", "--print"], cwd=project)
        for image in ["api", *answers.front_ends(answers.recorded(project))]:
            assert f'"{image}": {{' in told.stdout


def environment(project: Path) -> dict[str, str]:
    """Give the proxy's service what the Compose file gives it."""
    return programs.environment(answers.front_ends(answers.recorded(project)))


def with_each_file_that_differs(projects: list[Path], name: str) -> list[Path]:
    return [path.parents[1] for path in different(projects, f"infra/{name}")]


def test_caddy_accepts_its_configuration(projects: list[Path]) -> None:
    caddy = require("caddy", version_args=["version"])
    for project in with_each_file_that_differs(projects, "Caddyfile"):
        run(
            [caddy, "validate", "--adapter=caddyfile", "--config", project / "infra/Caddyfile"],
            env=environment(project),
        )


def test_caddy_finds_its_configuration_formatted(projects: list[Path]) -> None:
    caddy = require("caddy", version_args=["version"])
    for file in different(projects, "infra/Caddyfile", "infra/custom/caddy/*.caddy"):
        run([caddy, "fmt", "--diff", file])


def test_nginx_accepts_its_configuration(projects: list[Path], tmp_path: Path) -> None:
    nginx = require("nginx", version="1.29.7", version_args=["-v"])
    require("envsubst")
    for number, project in enumerate(with_each_file_that_differs(projects, "nginx.conf")):
        folder = tmp_path / str(number)
        infra = shutil.copytree(project / "infra", folder / "infra")
        text = (infra / "nginx.conf").read_text(encoding="utf-8")
        # The test of a configuration binds its ports too.
        ports = dict(zip(("80", "443", "8080"), programs.free_ports(3), strict=True))
        text = re.sub(r"(?m)^( +listen) (80|443|8080)\b", partial(on_loopback, ports), text)
        text = programs.without_acme(text, folder, sites=text.count("acme_certificate default;"))
        text = text.replace("/etc/nginx/proxy/", f"{infra}/")
        text = re.sub("(?m)^pid .*", f"pid {folder}/nginx.pid;", text)
        variables = environment(project)
        names = "".join(f"${{{name}}}" for name in variables)
        assert variables.keys() == set(programs.substituted_names(infra))
        configuration = folder / "nginx.conf"
        configuration.write_text(run(["envsubst", names], env=variables, input=text).stdout, encoding="utf-8")
        run([nginx, "-t", "-q", "-p", folder, "-e", "stderr", "-c", configuration])


def on_loopback(ports: dict[str, int], line: re.Match[str]) -> str:
    return f"{line[1]} 127.0.0.1:{ports[line[2]]}"
