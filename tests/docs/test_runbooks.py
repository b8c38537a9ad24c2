"""The runbooks' commands: valid shell that names only what is in the project or was made by a line before it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from itertools import takewhile
from typing import TYPE_CHECKING

import pytest
import yaml

from tests import tooling
from tests.docs import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

somewhere = pytest.mark.parametrize("profile", reading.PROFILES)

COMPOSE = re.compile(
    r"docker compose (?:--env-file \S+ )?-f infra/docker-compose\.prod\.yml (?:--profile '\*' )?(\S+)(.*)"
)
# Options of `docker compose` commands that take the word behind them.
WITH_VALUE = {"--wait-timeout", "--tail", "--name", "-e"}
COMPOSE_COMMANDS = {"config", "exec", "logs", "ps", "pull", "rm", "run", "stop", "up"}
DOCKER_COMMANDS = {"compose", "exec", "image", "info", "inspect", "login", "logout", "logs", "ps", "rm", "stats"}
GH_COMMANDS = {
    "api",
    "pr checks",
    "pr create",
    "pr merge",
    "repo create",
    "run list",
    "secret set",
    "variable set",
    "workflow run",
}
# Made on the server by a runbook, not part of the project.
MADE = {
    *("infra/custom/known_hosts", "infra/.env"),
    *("infra/terraform/custom_override.tf", "infra/terraform/.terraform.lock.hcl", "infra/ansible/inventory/hosts.yml"),
}


def with_commands(project: Path) -> list[Path]:
    """Return the documents whose lines are pasted."""
    others = [project / "infra" / "README.md", project / "infra" / "terraform" / "README.md"]
    return [*reading.runbooks(project), *(path for path in others if path.exists())]


def commands(project: Path) -> Iterator[tuple[str, str]]:
    """Return each line of code with the runbook that it is in; a line that goes on counts as one."""
    for document in with_commands(project):
        for block in reading.blocks(document):
            if block.language == "bash":
                for line in re.sub(r"\\\n\s*", " ", block.code).splitlines():
                    yield document.name, line


@somewhere
def test_every_block_says_where_it_runs(rendered: Callable[[str], Path], profile: str) -> None:
    for document in reading.runbooks(rendered(profile)):
        for block in reading.blocks(document):
            assert block.language == "bash", document
            assert block.place


@somewhere
def test_the_blocks_of_a_runbook_are_clean_shell_and_set_what_they_use(
    rendered: Callable[[str], Path], profile: str, tmp_path: Path
) -> None:
    """All blocks of one place are one script: a variable that no earlier block has set is found."""
    shellcheck = tooling.require("shellcheck")
    scripts = []
    for document in with_commands(rendered(profile)):
        for place in reading.PLACES:
            shell = [block for block in reading.blocks(document) if block.language == "bash"]
            code = "\n".join(block.code for block in shell if block.place == place)
            if code:
                script = tmp_path / f"{document.parent.name}.{document.stem}.{place}.sh"
                # A pasted line cannot exit; a remote command is expanded here on purpose; some variables are only
                # read by a person, or by a block of another place; a project may have one service only.
                script.write_text(f"# shellcheck disable=SC2164,SC2029,SC2034,SC2043\n{code}", encoding="utf-8")
                scripts.append(script)
    # Of the optional checks, three are about style: braces, masked exit codes, a default in every case.
    options = ["--shell=bash", "--enable=all", "--exclude=SC2250,SC2312,SC2249"]
    result = tooling.run([shellcheck, *options, *scripts], check=False)
    assert result.stdout == ""


@somewhere
def test_every_service_that_is_named_is_in_the_compose_file(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    services = yaml.safe_load((project / "infra" / "docker-compose.prod.yml").read_text(encoding="utf-8"))["services"]
    seen = set()
    for document, line in commands(project):
        for command, rest in COMPOSE.findall(line):
            assert command in COMPOSE_COMMANDS, (document, line)
            for name in _services(command, rest):
                seen.add(name)
                assert name in services, (document, line)
        for names in re.findall(r"^for service in (.*?);", line):
            assert all(f"{name}-green" in services for name in names.split()), (document, line)
    # Only where databases are exchanged by hand does a runbook stop the API.
    by_hand = not (project / "infra/bin/restore").exists()
    assert {"roles", *(["api-blue"] if by_hand else [])} <= seen


def _services(command: str, rest: str) -> list[str]:
    """Return the service names among a command's words, with the slots' variables filled in."""
    rest = rest.replace("$(sed -n 's/^COMPOSE_PROFILES=//p' .env)", "$live")
    lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(takewhile(lambda word: not set(word) & set("|&;<>()"), lexer))
    names: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") or before in WITH_VALUE:
            continue
        names.append(word)
        if command in {"exec", "run"}:
            break
    if "$service-$idle" in names:
        return ["api-green"]
    return [name.replace("$idle", "green").replace("$live", "blue") for name in names]


@somewhere
def test_every_compose_command_names_the_file_as_the_standard_does(
    rendered: Callable[[str], Path], profile: str
) -> None:
    for document, line in commands(rendered(profile)):
        for _ in re.findall(r"docker compose(?! version)", line):
            assert COMPOSE.search(line), (document, line)


@somewhere
def test_programs_and_their_commands_exist(rendered: Callable[[str], Path], profile: str) -> None:
    for document, line in commands(rendered(profile)):
        for command in re.findall(r"(?:^|[;|(&] ?)docker (\w+)", line):
            assert command in DOCKER_COMMANDS, (document, line)
        for command in re.findall(r"(?:^|[;|(&] ?)gh (api|\w+ \w+)", line):
            assert command in GH_COMMANDS, (document, line)


@somewhere
def test_paths_of_the_repository_exist(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    for document, line in commands(project):
        for path in re.findall(r"(?<![\w/$}])(infra/[\w./-]+|docs/[\w./-]+|\.env\.example)", line):
            clean = path.rstrip(".")
            if clean not in MADE and not clean.startswith("infra/migrations"):
                assert (project / clean).exists(), (document, line)


@somewhere
def test_variables_of_the_environment_file_are_those_of_the_example(
    rendered: Callable[[str], Path], profile: str
) -> None:
    project = rendered(profile)
    examples = [project / name for name in (".env.example", "infra/backup.env.example", "infra/backup-host/prune.conf")]
    example = "\n".join(path.read_text(encoding="utf-8") for path in examples if path.exists())
    known = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    documents = [*reading.runbooks(project), project / "infra" / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in documents)
    named = set(re.findall(r"`([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+)(?:=[^`]*)?`", text))
    workflows = "".join(path.read_text(encoding="utf-8") for path in (project / ".github/workflows").glob("*.yml"))
    secrets, variables = (set(re.findall(rf"{kind}\.(\w+)", workflows)) for kind in ("secrets", "vars"))
    assert sorted(named - known - secrets - variables) == []
    assert set(re.findall(r"gh secret set (\w+)", text)) == secrets
    # The addresses stand in deploy.conf; the variables are for who wants others.
    assert set(re.findall(r"gh variable set (\w+)", text)) == variables - {"STAGING_SSH", "PRODUCTION_SSH"}


def test_branch_protection_requires_checks_that_the_workflows_have(rendered: Callable[[str], Path]) -> None:
    project = rendered("default")
    code = block_with(project / "docs/runbooks/first-hour.md", "required_status_checks")
    required = json.loads(code.partition("<<'JSON'\n")[2].rpartition("JSON")[0])["required_status_checks"]["contexts"]
    jobs = [
        job.get("name", key)
        for path in (project / ".github/workflows").glob("*.yml")
        for key, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    ]
    assert [jobs.count(name) for name in required] == [1, 1]


@somewhere
def test_a_run_is_started_with_inputs_that_the_workflow_has(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    text = (project / ".github/workflows/deploy.yml").read_text(encoding="utf-8")
    inputs = yaml.safe_load(text.replace("\non:\n", "\n'on':\n", 1))["on"]["workflow_dispatch"]["inputs"]
    started = [line for _, line in commands(project) if "gh workflow run" in line]
    assert started
    for line in started:
        assert "gh workflow run deploy.yml" in line
        for name, value in re.findall(r"--field (\w+)=(\S+)", line):
            assert value in inputs[name].get("options", [value]), line


def test_what_a_script_is_said_to_say_stands_in_one(rendered: Callable[[str], Path]) -> None:
    project = rendered("default")
    said = "".join(path.read_text(encoding="utf-8") for path in (project / "infra/bin").iterdir())
    text = (project / "docs/runbooks/restore-database-backup.md").read_text(encoding="utf-8")
    table = takewhile(
        lambda line: line.startswith("| "), text.partition("| It says | Do |\n|---|---|\n")[2].splitlines()
    )
    sayings = [line.split(" | ")[0].removeprefix("| ") for line in table]
    parts = [part.strip() for saying in sayings for part in re.split("[…,]", saying) if part.strip()]
    assert len(parts) > len(sayings)
    assert [part for part in parts if part not in said] == []


@somewhere
def test_placeholders_have_one_form_and_stand_alone(rendered: Callable[[str], Path], profile: str) -> None:
    for document, line in commands(rendered(profile)):
        assert not re.search(r"<[a-z-]+>|\bYOUR_|\bXXX", line), (document, line)
        for placeholder in re.findall(r"REPLACE_\w*", line):
            assert placeholder.startswith("REPLACE_WITH_"), (document, line)


# ----- Some blocks are run ----------------------------------------------------------------------------------------


def block_with(document: Path, words: str) -> str:
    """Return the one block of a runbook that has these words."""
    found = [block.code for block in reading.blocks(document) if words in block.code]
    assert len(found) == 1, words
    return found[0]


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block as a person pastes it: an interactive shell's rules, no `set -e`."""
    return tooling.run(["bash", "-c", script], cwd=folder, check=False)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The project's folder on a server, before anything is in it."""
    folder = tmp_path / "server"
    for name in ("state", "infra", "releases"):
        (folder / name).mkdir(parents=True)
    return folder


def environment_file(project: Path, server: Path) -> subprocess.CompletedProcess[str]:
    """Run the block that makes `.env`, in this folder instead of the real one."""
    (server / ".env.example").write_bytes((project / ".env.example").read_bytes())
    code = block_with(project / "docs/runbooks/first-hour.md", "noclobber")
    return bash(re.sub(r"^cd /opt/\S+$", "", code, flags=re.MULTILINE), server)


@somewhere
def test_the_first_hour_makes_an_environment_file_that_compose_accepts(
    rendered: Callable[[str], Path], profile: str, server: Path
) -> None:
    project = rendered(profile)
    tooling.require("docker-compose", version="2.24", version_args=["version"])
    made = environment_file(project, server)
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", (server / ".env").read_text(encoding="utf-8"), re.MULTILINE))
    assert (server / ".env").stat().st_mode & 0o777 == 0o600
    assert not [name for name in values if name == "COMPOSE_PROFILES" or name.endswith("_IMAGE")]
    assert values["ASPNETCORE_ENVIRONMENT"] == "Staging"
    secrets = [values[name] for name in ("JWT_SECRET", "POSTGRES_OWNER_PASSWORD", "POSTGRES_APP_PASSWORD")]
    assert len(set(secrets)) == 3
    assert not any(secret in made.stdout + made.stderr for secret in secrets)
    empty = [name for name, value in values.items() if not value]
    managed = "POSTGRES_HOST" in values
    assert empty == (["POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_USER", "POSTGRES_PASSWORD"] if managed else [])
    assert [line.partition(":")[2] for line in made.stdout.splitlines()] == [f"{name}=" for name in empty]

    text = (server / ".env").read_text(encoding="utf-8")
    filled = re.sub(r"^(POSTGRES_\w+)=$", r"\1=5432", text, flags=re.MULTILINE)
    check = (project / "infra/check.env").read_text(encoding="utf-8")
    images = "".join(f"{line}\n" for line in check.splitlines() if "_IMAGE=" in line)
    (server / "state/compose.env").write_text(filled + images + "COMPOSE_PROFILES=blue\n", encoding="utf-8")
    compose = project / "infra/docker-compose.prod.yml"
    command: list[str | Path] = [
        "docker-compose",
        "--env-file",
        server / "state/compose.env",
        "-f",
        compose,
        "config",
        "--quiet",
    ]
    result = tooling.run(command)
    assert result.stderr == ""


def test_an_existing_environment_file_is_kept(rendered: Callable[[str], Path], server: Path) -> None:
    (server / ".env").write_text("KEPT=yes\n", encoding="utf-8")
    environment_file(rendered("default"), server)
    assert (server / ".env").read_text(encoding="utf-8") == "KEPT=yes\n"


def test_a_secret_is_replaced_literally_and_alone(rendered: Callable[[str], Path], server: Path) -> None:
    (server / ".env").write_text("A=1\nJWT_SECRET=old\nJWT_SECRETS=kept\n", encoding="utf-8")
    (server / "state/compose.env").write_text("JWT_SECRET=old\nAPI_IMAGE=live\n", encoding="utf-8")
    code = block_with(rendered("default") / "docs/runbooks/rotate-secrets.md", "set_value()")
    code = re.sub(r"^cd /opt/\S+$", "", code, flags=re.MULTILINE)
    value = r"a/b+c=\1&\\n$HOME`id`"
    result = bash(f"{code}\nprintf '%s\\n' '{value}' | set_value JWT_SECRET", server)
    assert result.stderr == ""
    assert (server / ".env").read_text(encoding="utf-8") == f"A=1\nJWT_SECRET={value}\nJWT_SECRETS=kept\n"
    assert (server / "state/compose.env").read_text(encoding="utf-8") == f"JWT_SECRET={value}\nAPI_IMAGE=live\n"
    assert {(server / name).stat().st_mode & 0o777 for name in (".env", "state/compose.env")} == {0o600}


@somewhere
def test_ssh_is_open_to_the_admin_networks_alone(rendered: Callable[[str], Path], profile: str) -> None:
    code = (rendered(profile) / "infra/server/nftables.conf").read_text(encoding="utf-8")
    answers = (rendered(profile) / ".copier-answers.yml").read_text(encoding="utf-8")
    networks = yaml.safe_load(answers)["admin_networks"].split()
    rules = [line for line in code.splitlines() if "dport 22" in line]
    if "delivery: firewall_rule" in answers:  # the provider's firewall decides who reaches it
        assert rules == ["    tcp dport 22 accept"]
        table = (rendered(profile) / "docs/runbooks/provision-server.md").read_text(encoding="utf-8")
        assert f"| 22/tcp | {', '.join(networks)} |" in table
    else:
        assert sorted(network for rule in rules for network in re.findall(r"[0-9a-f.:]+/\d+", rule)) == sorted(networks)
        assert all("saddr" in rule for rule in rules)
    assert "flush ruleset" not in code


@somewhere
def test_dns_names_every_host_that_the_proxy_serves(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    text = (project / "docs/runbooks/first-hour.md").read_text(encoding="utf-8")
    facts = dict(re.findall(r"^(\w+)=(.*)$", (project / "infra/deploy.conf").read_text(encoding="utf-8"), re.MULTILINE))
    hosts = [pair.partition("=")[2] for key in ("PRODUCTION_HOSTS", "STAGING_HOSTS") for pair in facts[key].split()]
    named = re.findall(r"^\| `([^`]+)` \| A, AAAA \|", text, re.MULTILINE)
    assert {name for name in named if not name.startswith("www.")} == set(hosts)
    name_of = {"caddy": "Caddyfile", "nginx": "nginx.conf"}
    config = (project / "infra" / name_of[facts["PROXY"]]).read_text(encoding="utf-8")
    assert any(name.startswith("www.") for name in named) == ("www." in config)
