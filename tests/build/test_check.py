"""infra/bin/check: green on a fresh project, and red with a plain sentence for every rule that somebody breaks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.build.conftest import GIT, commit
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

CHECKS = ["compose", "proxy", "shell", "dockerfiles", "secrets", "env-example", "standards"]
# Only where there is something to check.
SOMETIMES = ["terraform", "ansible"]
# What any machine has.
BASICS = [
    "awk",
    "basename",
    "bash",
    "cat",
    "cut",
    "dirname",
    "env",
    "find",
    "git",
    "grep",
    "id",
    "mktemp",
    "rm",
    "sed",
    "sort",
    "tr",
    "xargs",
]
TOOLS = ["caddy", "docker-compose", "gitleaks", "hadolint", "jq", "shellcheck"]

# Looks like a token of GitHub, and is none.
TOKEN = "ghp_" + "q7Rk2VtY9bXw4Zs1Lc8Jd3Fh6Gm0Pn5AeUiO"


def check(project: Path, *names: str, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    """Run the script."""
    for tool in TOOLS:
        require(tool)
    return run([project / "infra/bin/check", *names], cwd=project.parent, env=env, check=False)


def append(text: str) -> Callable[[Path], None]:
    """Make a change that adds text at the end of a file."""

    def change(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    return change


def replace(old: str, new: str) -> Callable[[Path], None]:
    """Make a change that replaces text in a file."""

    def change(path: Path) -> None:
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new), encoding="utf-8")

    return change


def service(lines: str) -> Callable[[Path], None]:
    """Make a change that gives custom/compose.yml a service with these lines, or its service more lines."""

    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        if "services: {}" in text:
            text = text.replace("services: {}", "services:\n  cache:\n    image: ${CACHE_IMAGE:?is missing}")
        path.write_text(f"{text}    {lines}\n", encoding="utf-8")

    return change


BROKEN = {
    "a Compose file that is no YAML": ("compose", "infra/docker-compose.prod.yml", append("  - [\n"), "not valid"),
    "a slot that cannot start": (
        "compose",
        "infra/docker-compose.prod.yml",
        replace("  api-green:\n    <<: *api\n", "  api-green:\n    <<: *api\n    depends_on: [api-blue]\n"),
        "not valid with COMPOSE_PROFILES=green",
    ),
    "an image without a digest": (
        "compose",
        "infra/docker-compose.prod.yml",
        replace("image: ${WORKER_IMAGE:?is missing, it is the worker image by digest}", "image: example/worker:1"),
        "worker runs example/worker:1, which has no digest",
    ),
    "a port beside the proxy": (
        "compose",
        "infra/docker-compose.prod.yml",
        replace("  worker:\n", '  worker:\n    ports: ["9000:9000"]\n'),
        "service worker publishes a port",
    ),
    "a directive that Caddy does not know": (
        "proxy",
        "infra/Caddyfile",
        append("frobnicate.example {\n\tno_such\n}\n"),
        "no_such",
    ),
    "a Caddyfile out of shape": ("proxy", "infra/Caddyfile", append("x.example {\nrespond ok\n}\n"), "not formatted"),
    "a shell script with a mistake": ("shell", "infra/custom/test", append("cd $1\n"), "SC2086"),
    "a Dockerfile on a moving base": ("dockerfiles", "Dockerfile.web", append("FROM node:latest AS other\n"), "DL3007"),
    "a secret in a file": ("secrets", "infra/custom/test", append(f"# TOKEN={TOKEN}\n"), "gitleaks found a secret"),
    "a variable missing in the example": (
        "env-example",
        ".env.example",
        replace("JWT_SECRET=\n", "OLD_JWT_SECRET=\n"),
        "lacks JWT_SECRET",
    ),
    "an optional variable missing in the example": (
        "env-example",
        ".env.example",
        replace("# API_MEMORY=\n", ""),
        "lacks API_MEMORY",
    ),
    "a variable of one's own missing in the example": (
        "env-example",
        "infra/custom/api.env",
        append("Smtp__Password=${SMTP_PASSWORD:?is missing in .env}\n"),
        "lacks SMTP_PASSWORD",
    ),
    "a value in the example": (
        "env-example",
        ".env.example",
        replace("JWT_ISSUER=\n", "JWT_ISSUER=https://shop.example.com\n"),
        "JWT_ISSUER: a value stands there",
    ),
    "a value behind a comment in the example": ("env-example", ".env.example", append("# SPARE=1\n"), "SPARE: a value"),
    "an image called latest": (
        "standards",
        "Dockerfile.api",
        append("FROM scratch:latest\n"),
        "latest changes without notice",
    ),
    "a fixed container name": (
        "standards",
        "infra/custom/compose.yml",
        service("container_name: cache"),
        "second slot",
    ),
    "a privileged container": ("standards", "infra/custom/compose.yml", service("privileged: true"), "owns the server"),
    "the Docker socket": (
        "standards",
        "infra/custom/compose.yml",
        service('volumes: ["/var/run/docker.sock:/var/run/docker.sock"]'),
        "Docker socket",
    ),
    "a published port of one's own": (
        "standards",
        "infra/custom/compose.yml",
        service('ports: ["6379:6379"]'),
        "only the proxy",
    ),
    "a rejected hunk": (
        "standards",
        "infra/Caddyfile.rej",
        append("x\n"),
        "infra/Caddyfile.rej holds what copier update",
    ),
    "conflict markers": (
        "standards",
        "docs/notes.md",
        append("<<<<<<< before updating\n"),
        "docs/notes.md has conflict markers",
    ),
}


def test_a_fresh_project_passes_every_check(project: Path) -> None:
    told = check(project)
    assert told.returncode == 0, told.stdout
    assert re.findall(r"^([a-z-]+)\n  passed in \d+ s$", told.stdout, re.MULTILINE) == CHECKS


@pytest.mark.parametrize("profile", ["everything", "managed-bundle"])
def test_other_projects_pass_too(make_project: Callable[[str], Path], profile: str) -> None:
    told = check(make_project(profile), "compose", "env-example", "dockerfiles", "standards")
    assert told.returncode == 0, told.stdout


# What keeps Compose from reading the file at all hides everything else, so it is tried alone.
FATAL = ("a Compose file that is no YAML", "a slot that cannot start")
TOGETHER = {name: [what for what in BROKEN if BROKEN[what][0] == name and what not in FATAL] for name in CHECKS}


@pytest.mark.parametrize("what", [*((what,) for what in FATAL), *map(tuple, TOGETHER.values())], ids="; ".join)
def test_it_finds(project: Path, what: tuple[str, ...]) -> None:
    for rule in what:
        name, file, change, _ = BROKEN[rule]
        change(project / file)
    told = check(project, name)
    assert told.returncode == 1, told.stdout
    for rule in what:
        assert BROKEN[rule][3] in told.stdout
    assert told.stdout.endswith(f"Failed: {name}\n")


def test_it_finds_a_secret_that_was_committed_and_removed_again(project: Path) -> None:
    file = project / "notes.txt"
    file.write_text(TOKEN, encoding="utf-8")
    commit(project)
    file.unlink()
    commit(project)
    assert "gitleaks found a secret" in check(project, "secrets").stdout


def test_it_finds_a_staged_secret(project: Path) -> None:
    (project / "notes.txt").write_text(TOKEN, encoding="utf-8")
    run([*GIT, "add", "--all"], cwd=project)
    assert "gitleaks found a secret" in check(project, "secrets").stdout


def test_it_never_prints_a_secret(project: Path) -> None:
    (project / "notes.txt").write_text(TOKEN, encoding="utf-8")
    commit(project)
    told = check(project, "secrets")
    assert TOKEN not in told.stdout + told.stderr


def test_it_finds_an_env_file_in_the_repository(project: Path) -> None:
    (project / "apps").mkdir()
    (project / "apps/.env.production").write_text("A=1\n", encoding="utf-8")
    run([*GIT, "add", "--force", "apps/.env.production"], cwd=project)
    assert "apps/.env.production is in the repository" in check(project, "secrets").stdout


def test_it_finds_files_of_the_server_that_git_would_take(project: Path) -> None:
    (project / ".gitignore").write_text("", encoding="utf-8")
    told = check(project, "secrets")
    for file in (".env", "infra/.env", "release.env", "infra/migrations/migrate.sql"):
        assert f"Git does not ignore {file}" in told.stdout


def test_files_that_git_ignores_do_not_matter(project: Path) -> None:
    (project / ".env").write_text(f"TOKEN={TOKEN}\n", encoding="utf-8")
    assert check(project, "secrets", "standards").returncode == 0


def test_a_rule_in_a_comment_is_not_broken(project: Path) -> None:
    append("# ports: and privileged: true and docker.sock\n")(project / "infra/custom/compose.yml")
    assert check(project, "standards").returncode == 0


def test_a_service_of_ones_own_is_welcome(project: Path) -> None:
    service("restart: unless-stopped")(project / "infra/custom/compose.yml")
    append("CACHE_IMAGE=docker.io/valkey/valkey:9.0\n")(project / "infra/custom/images.conf")
    append(f"CACHE_IMAGE=docker.io/valkey/valkey:9.0@sha256:{'ab' * 32}\n")(project / "infra/custom/check.env")
    told = check(project, "compose", "env-example", "standards")
    assert told.returncode == 0, told.stdout


def test_after_a_failure_the_others_still_run(project: Path) -> None:
    append("x.example {\nrespond ok\n}\n")(project / "infra/Caddyfile")
    append("cd $1\n")(project / "infra/custom/test")
    told = check(project)
    assert told.returncode == 1
    assert re.findall(r"^[a-z-]+$", told.stdout, re.MULTILINE) == CHECKS
    assert told.stdout.endswith("\nFailed: proxy shell\n")


def test_without_commits_the_files_are_looked_through(project: Path) -> None:
    shutil.rmtree(project / ".git")
    run(["git", "init", "--quiet"], cwd=project)
    assert check(project, "secrets").returncode == 0
    (project / "notes.txt").write_text(TOKEN, encoding="utf-8")
    assert "gitleaks found a secret" in check(project, "secrets").stdout


def test_a_folder_without_git_can_be_checked(project: Path) -> None:
    shutil.rmtree(project / ".git")
    told = check(project)
    assert told.returncode == 0, told.stdout


def test_list_names_the_checks_and_help_explains_each(project: Path) -> None:
    assert check(project, "--list").stdout.split() == CHECKS
    explained = re.findall(r"^  ([a-z-]+)  ", check(project, "--help").stdout, re.MULTILINE)
    assert explained == CHECKS + SOMETIMES


def test_an_unknown_name_is_refused(project: Path) -> None:
    told = check(project, "compsoe")
    assert told.returncode == 1
    assert "there is no check compsoe; there are: compose proxy" in told.stderr


@pytest.mark.parametrize(
    ("name", "missing", "sentence"),
    [
        ("shell", "shellcheck", "neither shellcheck nor a Docker engine is here: install one of them"),
        ("dockerfiles", "hadolint", "neither hadolint nor a Docker engine is here: install one of them"),
        ("secrets", "gitleaks", "neither gitleaks nor a Docker engine is here: install one of them"),
        ("compose", "docker", "docker compose is not here: install Docker with its Compose plugin"),
        ("compose", "jq", "jq is not here: install it"),
        ("proxy", "caddy", "neither a fitting caddy nor a Docker engine is here: install Docker"),
    ],
)
def test_a_missing_program_fails_the_check_and_says_what_to_install(
    project: Path, tmp_path: Path, name: str, missing: str, sentence: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in {*BASICS, *TOOLS, "docker"} - {missing}:
        (tools / tool).symlink_to(require(tool))
    told = check(project, name, env={"PATH": str(tools), "DOCKER_HOST": "tcp://127.0.0.1:9"})
    assert told.returncode == 1
    assert sentence in told.stdout
