"""infra/bin/conformance: silent on what the template makes, and exact about every way in which a project can stray."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pins
import pytest
import yaml

from tests import profiles, rendering
from tests.build.conftest import GIT
from tests.test_standard import rules as rules_of_the_standard
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

COMPOSE = "infra/docker-compose.prod.yml"
RULES_FILE = rendering.ROOT / "template/infra/conformance/rules.yml"
RULES: dict[str, dict[str, str]] = yaml.safe_load(RULES_FILE.read_text(encoding="utf-8"))["rules"]
LONG_AGO = "2020-01-31"


def conformance(project: Path, *words: str | Path, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    """Run the script."""
    for tool in ("docker-compose", "jq", "opa"):
        require(tool, version_args=("version",))
    return run([project / "infra/bin/conformance", *words], cwd=project.parent, env=env, check=False)


def findings(project: Path, *words: str | Path) -> list[dict[str, Any]]:
    """What stands open."""
    told = conformance(project, "--json", *words)
    assert told.returncode in {0, 1}, told.stderr
    found: list[dict[str, Any]] = json.loads(told.stdout)["open"]
    assert bool(found) == bool(told.returncode)
    return found


def replace(file: str, old: str, new: str, count: int = -1) -> Callable[[Path], None]:
    """Make a change of a text."""

    def change(project: Path) -> None:
        path = project / file
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new, count), encoding="utf-8")

    return change


def write(file: str, text: str) -> Callable[[Path], None]:
    """Make a change that writes a file, or adds to it."""

    def change(project: Path) -> None:
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as opened:
            opened.write(text)

    return change


def remove(*files: str) -> Callable[[Path], None]:
    """Make a change that deletes files."""

    def change(project: Path) -> None:
        for file in files:
            (project / file).unlink()

    return change


def rename(old: str, new: str) -> Callable[[Path], None]:
    """Make a change that moves a file."""

    def change(project: Path) -> None:
        (project / old).rename(project / new)

    return change


def become(file: str, content: bytes) -> Callable[[Path], None]:
    """Make a change that replaces a file."""

    def change(project: Path) -> None:
        (project / file).write_bytes(content)

    return change


def empty(project: Path) -> None:
    """Delete every file."""
    for path in rendering.files(project):
        (project / path).unlink()


def remove_service(*names: str) -> Callable[[Path], None]:
    """Make a change that takes services out of the Compose file."""

    def change(project: Path) -> None:
        path = project / COMPOSE
        text = path.read_text(encoding="utf-8")
        for name in names:
            text, count = re.subn(rf"(?m)^  {name}:\n(?:    .*\n|\n(?=    ))+", "", text)
            assert count == 1, name
        path.write_text(text, encoding="utf-8")

    return change


def service(**more: object) -> Callable[[Path], None]:
    """Make a change that gives custom/compose.yml a service as good as the generated ones, but for these settings.

    None takes a setting out.
    """
    good: dict[str, object] = {
        "image": f"docker.io/valkey/valkey:9.0@sha256:{'ab' * 32}",
        "restart": "unless-stopped",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": ["/tmp"],
        "networks": ["internal"],
        "healthcheck": {"test": ["CMD", "valkey-cli", "ping"]},
        "logging": {"driver": "json-file", "options": {"max-size": "10m"}},
        "deploy": {"resources": {"limits": {"cpus": "0.5", "memory": "128m", "pids": 64}}},
    }

    def change(project: Path) -> None:
        made = {name: value for name, value in {**good, **more}.items() if value is not None}
        text = yaml.safe_dump(
            {"services": {"cache": made}, "networks": {"internal": {"internal": True}}}, sort_keys=False
        )
        (project / "infra/custom/compose.yml").write_text(text, encoding="utf-8")

    return change


def forced(file: str) -> Callable[[Path], None]:
    """Make a change that commits a file although Git ignores it."""

    def change(project: Path) -> None:
        write(file, "A=1\n")(project)
        run([*GIT, "add", "--force", file], cwd=project)

    return change


# For each rule, how projects come to break it: the profile, the change, what is shown of the place.
STRAYED: dict[str, list[tuple[str, Callable[[Path], None], str]]] = {
    "1.1": [("managed-database", replace("infra/deploy.conf", "DATABASE=managed", "DATABASE=container"), "")],
    "1.2": [("default", replace(COMPOSE, "  api-", "  backend-"), "")],
    "1.3": [
        (
            "default",
            replace(
                COMPOSE, "image: ${WORKER_IMAGE:?is missing, it is the worker image by digest}", "image: ${API_IMAGE}"
            ),
            "worker",
        )
    ],
    "1.4": [("default", replace("infra/deploy.conf", "FRONTENDS=web", "FRONTENDS=web shop"), "shop")],
    "1.5": [("default", remove_service("caddy"), "")],
    "2.1": [("default", rename(COMPOSE, "infra/production.yml"), COMPOSE)],
    "2.2": [
        ("default", remove("infra/Caddyfile"), "infra/Caddyfile"),
        ("nginx", remove("infra/nginx.conf"), "infra/nginx.conf"),
    ],
    "2.3": [
        ("default", replace(".env.example", "JWT_ISSUER=\n", "JWT_ISSUER=https://shop.example.com\n"), "JWT_ISSUER"),
        ("default", remove(".env.example"), ".env.example"),
    ],
    "2.4": [
        ("default", forced("apps/api/.env.production"), "apps/api/.env.production"),
        ("default", become(".gitignore", b"node_modules\n"), ".gitignore"),
    ],
    "3.1": [("default", remove("docs/adr/0001-provisioning.md"), "docs/adr")],
    "3.4": [
        (
            "default",
            replace("infra/server/sshd.conf", "PasswordAuthentication no", "PasswordAuthentication yes"),
            "PasswordAuthentication",
        ),
        ("default", replace("infra/server/sshd.conf", "PermitRootLogin no\n", ""), "PermitRootLogin"),
    ],
    "3.5": [
        ("default", service(ports=["6379:6379"]), "infra/custom/compose.yml"),
        (
            "default",
            replace(COMPOSE, '"${HTTP_PORT:-80}:80"', '"${HTTP_PORT:-80}:80"\n      - "2019:2019"'),
            "port 2019",
        ),
        (
            "default",
            replace(
                "infra/server/nftables.conf", "udp dport 443 accept", "udp dport 443 accept\n    tcp dport 5432 accept"
            ),
            "5432",
        ),
        (
            "runner",
            replace("infra/server/nftables.conf", "ip saddr { 203.0.113.7/32 } tcp dport 22", "tcp dport 22"),
            "dport 22",
        ),
    ],
    "3.6": [
        ("default", replace("infra/server/apt-periodic.conf", 'Unattended-Upgrade "1"', 'Unattended-Upgrade "0"'), "")
    ],
    "3.7": [
        (
            "default",
            replace("infra/deploy.conf", "PRODUCTION_SSH=deploy@", "PRODUCTION_SSH=root@"),
            "root@api.shop.example.com",
        )
    ],
    "4.1": [
        (
            "default",
            replace(
                COMPOSE,
                "JwtSettings__Secret: ${JWT_SECRET:?is missing in .env}",
                "JwtSettings__Secret: correct-horse-battery",
            ),
            "JwtSettings__Secret",
        ),
        ("default", write("infra/custom/api.env", "Smtp__Password=correct-horse\n"), "infra/custom/api.env"),
        (
            "default",
            replace(COMPOSE, "Password=${POSTGRES_APP_PASSWORD:?is missing in .env}", "Password=horse"),
            "ConnectionStrings__Database",
        ),
        (
            "everything",
            replace(
                ".github/workflows/build.yml", "password: ${{ secrets.REGISTRY_TOKEN }}", "password: correct-horse"
            ),
            "password",
        ),
    ],
    "4.2": [
        (
            "default",
            write("infra/custom/deploy_key", "-----BEGIN " + "OPENSSH PRIVATE KEY-----\nx\n"),
            "infra/custom/deploy_key:1",
        )
    ],
    "4.3": [
        ("default", service(image="docker.io/valkey/valkey:9.0"), "docker.io/valkey/valkey:9.0"),
        ("default", service(image=None, build="."), "what is built on the server"),
    ],
    "5.1": [("default", remove(".github/workflows/build.yml"), "")],
    "5.2": [
        ("default", write("infra/docker-compose.staging.yml", "services: {}\n"), "infra/docker-compose.staging.yml")
    ],
    "5.4": [("default", remove_service("migrate"), "")],
    "6.1": [("default", remove("infra/server/backup.timer"), "")],
    "6.2": [
        ("default", remove("infra/backup.env.example"), ""),
        ("everything", remove("infra/backup.env.example"), ""),
    ],
    "6.3": [("default", remove("infra/server/restore-drill.timer"), "")],
    "7.2": [
        (
            "terraform",
            write("infra/terraform/custom.tf", 'resource "hcloud_load_balancer" "web" {\n  name = "web"\n}\n'),
            "infra/terraform/custom.tf:3",
        )
    ],
    "7.3": [
        ("default", write("apps/web/vercel.json", "{}\n"), "apps/web/vercel.json"),
        ("default", write("deploy/api.yml", "apiVersion: apps/v1\nkind: Deployment\n"), "deploy/api.yml:2"),
    ],
    "8.1": [("default", replace(COMPOSE, "postgres_data:/var/lib/postgresql", "postgres_data:/backup"), "postgres")],
    "8.2": [
        (
            "default",
            replace(
                COMPOSE,
                "Username=${POSTGRES_DB}_app;Password=${POSTGRES_APP_PASSWORD",
                "Username=${POSTGRES_DB}_owner;Password=${POSTGRES_OWNER_PASSWORD",
            ),
            "api-blue",
        ),
        ("default", write("infra/custom/worker.env", "POSTGRES_PASSWORD=${POSTGRES_PASSWORD}\n"), "worker"),
    ],
    "8.3": [
        (
            "default",
            write(
                "apps/api/src/HarbourShop.WebApi/Program.cs",
                "var app = builder.Build();\nawait db.Database.MigrateAsync();\n",
            ),
            "Program.cs:2",
        )
    ],
    "9.1": [("default", write(COMPOSE, "  - [\n"), COMPOSE)],
    "9.2": [
        ("default", remove(".github/workflows/infra.yml"), ""),
        (
            "default",
            replace(".github/workflows/infra.yml", "  pull_request:\n", "  pull_request:\n    paths: [apps/**]\n"),
            "",
        ),
    ],
    "9.3": [
        ("terraform", replace(".github/workflows/infra.yml", "infra/bin/check terraform", "terraform version"), "")
    ],
    "10.1": [
        (
            "default",
            replace("Dockerfile.web", "AS build", "AS build\nFROM docker.io/library/node:latest AS other"),
            "Dockerfile.web:",
        ),
        (
            "default",
            write("infra/custom/images.conf", "CACHE_IMAGE=docker.io/valkey/valkey:latest\n"),
            "infra/custom/images.conf:1",
        ),
    ],
    "10.2": [
        ("default", replace(COMPOSE, "  read_only: true\n  cap_drop", "  cap_drop"), "worker"),
        ("default", service(read_only=None), "infra/custom/compose.yml:2: cache"),
    ],
    "10.3": [("default", service(cap_drop=None), "cache"), ("default", service(cap_drop=["NET_RAW"]), "cache")],
    "10.4": [("default", service(security_opt=["no-new-privileges:false"]), "cache")],
    "10.5": [
        ("default", service(healthcheck=None), "cache"),
        ("default", service(healthcheck={"disable": True}), "cache"),
    ],
    "10.6": [("default", service(deploy={"resources": {"limits": {"cpus": "1", "memory": "1g"}}}), "no limit of pids")],
    "10.7": [
        (
            "default",
            replace(COMPOSE, "    networks:\n      edge:\n", "    networks:\n      data:\n      edge:\n"),
            "network data with postgres",
        ),
        ("default", replace(COMPOSE, "  data:\n    internal: true", "  data:"), "which leads out"),
        ("default", replace(COMPOSE, "  networks: [internal]\n", "  networks: [internal, data]\n"), "web-blue"),
    ],
    "10.8": [
        (
            "default",
            write(
                ".github/workflows/lint.yml",
                "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n"
                "      - uses: actions/checkout@v4\n",
            ),
            ".github/workflows/lint.yml:7: uses actions/checkout@v4",
        )
    ],
    "10.9": [
        (
            "default",
            replace(".github/workflows/build.yml", "permissions: {}\n", "permissions: write-all\n"),
            "grants everything",
        ),
        (
            "default",
            write(
                ".github/workflows/lint.yml",
                "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps: [{run: make}]\n",
            ),
            "lint.yml",
        ),
    ],
    "10.10": [
        ("default", service(privileged=True), "privileged mode"),
        ("default", service(volumes=["/var/run/docker.sock:/var/run/docker.sock"]), "the Docker socket"),
        ("default", service(network_mode="host", networks=None), "the host's network"),
        ("default", service(cap_add=["SYS_ADMIN"]), "the capability SYS_ADMIN"),
        ("default", service(security_opt=["no-new-privileges:true", "seccomp:unconfined"]), "seccomp:unconfined"),
        (
            "default",
            become("infra/custom/services/worker.yml", b"services:\n  worker:\n    cap_add: [NET_ADMIN]\n"),
            "the capability NET_ADMIN",
        ),
    ],
    "10.11": [("default", service(logging=None), "cache")],
    "10.12": [("default", remove("docs/runbooks/rotate-secrets.md"), "docs/runbooks/rotate-secrets.md")],
    "10.13": [("default", replace("docs/adr/0002-proxy.md", "- Status: accepted\n", ""), "docs/adr/0002-proxy.md")],
    "10.14": [("default", service(restart=None), "cache")],
}


@pytest.mark.parametrize("profile", profiles.combinations_by_name())
def test_what_the_template_makes_meets_every_rule(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    told = conformance(project)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout == f"{len(RULES)} rules hold.\n"


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, number) for rule, ways in STRAYED.items() for number in range(len(ways))]
)
def test_one_change_breaks_one_rule_and_is_named(make_project: Callable[[str], Path], rule: str, number: int) -> None:
    profile, change, shown = STRAYED[rule][number]
    project = make_project(profile)
    change(project)
    told = conformance(project)
    assert told.returncode == 1, told.stderr
    broken = re.findall(r"^(\S+)  \S.*\n      ", told.stdout, re.MULTILINE)
    assert broken == [rule], told.stdout
    assert shown in told.stdout
    about = RULES[rule]
    assert f"{rule}  {about['text']}\n" in told.stdout
    assert f"      why: {about['why']}\n      do:  {about['do']}\n" in told.stdout
    assert told.stderr == ""


def test_every_rule_has_a_change_that_breaks_it() -> None:
    assert STRAYED.keys() == RULES.keys()


def test_the_numbers_are_those_of_the_standard() -> None:
    known = {rule.id: rule.text for rule in rules_of_the_standard()}
    assert RULES.keys() <= known.keys()
    own = {rule: about["text"] for rule, about in RULES.items() if rule.startswith("10.")}
    assert own == {rule: text for rule, text in known.items() if rule.startswith("10.")}


def test_lines_are_those_of_the_service(project: Path) -> None:
    replace(COMPOSE, "  worker:\n", '  worker:\n    ports: ["9000:9000"]\n')(project)
    [found] = findings(project)
    line = (project / COMPOSE).read_text(encoding="utf-8").splitlines()[found["line"] - 1]
    assert (found["file"], found["subject"], line) == (COMPOSE, "worker", "  worker:")


def test_several_things_are_told_in_the_order_of_the_rules(project: Path) -> None:
    service(read_only=None, logging=None, cap_drop=None)(project)
    remove("infra/Caddyfile", "docs/runbooks/rotate-secrets.md")(project)
    assert [found["rule"] for found in findings(project)] == ["2.2", "10.2", "10.3", "10.11", "10.12"]
    assert conformance(project).stdout.endswith(f"5 rules do not hold, {len(RULES)} were judged.\n")


# ----- Projects that nobody made with the template ----------------------------------------------------------------

ORDINARY = {
    "docker-compose.yml": """\
version: "3"
services:
  db:
    image: postgres:16
    environment: {POSTGRES_PASSWORD: hunter2}
    ports: ["5432:5432"]
  web:
    build: .
    ports: ["80:3000"]
    depends_on: [db]
""",
    ".github/workflows/ci.yml": """\
on: [push]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: make test
""",
    "Dockerfile": "FROM node:latest\n",
    "README.md": "# An app\n",
}


def test_a_repository_that_the_template_never_made_is_judged(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for file, text in ORDINARY.items():
        write(file, text)(other)
    found = findings(project, other)
    by_rule = {(each["rule"], each["file"], each["line"]) for each in found}
    assert {
        ("2.1", COMPOSE, 0),
        ("3.5", "docker-compose.yml", 3),
        ("4.1", "docker-compose.yml", 0),
        ("4.3", "docker-compose.yml", 3),
        ("10.1", "Dockerfile", 1),
        ("10.8", ".github/workflows/ci.yml", 6),
        ("10.9", ".github/workflows/ci.yml", 0),
        ("10.12", "docs/runbooks/rotate-secrets.md", 0),
    } <= by_rule
    assert "1.1" not in {each["rule"] for each in found}


NONSENSE: dict[str, list[Callable[[Path], None]]] = {
    "nothing at all": [empty],
    "a workflow that is no YAML": [write(".github/workflows/broken.yml", "a: [\n")],
    "a workflow that is a list": [write(".github/workflows/list.yml", "- a\n- b\n")],
    "a workflow without jobs": [write(".github/workflows/none.yml", "on: push\njobs:\n")],
    "jobs that are text": [write(".github/workflows/text.yml", "on: push\npermissions: {}\njobs: {a: b, c: [d]}\n")],
    "an empty Compose file": [become(COMPOSE, b"")],
    "a Compose file of text": [become(COMPOSE, b"services\n")],
    "settings twice": [write("infra/deploy.conf", "PROXY=nginx\nPROXY=caddy\n")],
    "a binary file with a text's name": [become("infra/custom/x.env", b"\xff\x00\xfe")],
    "a link that leads nowhere": [lambda project: (project / "infra/custom/y.env").symlink_to("nowhere")],
    "names with odd characters": [write('docs/adr/0099 ‘odd’ $(id) "name".md', "# Odd\n\n- Status: accepted\n")],
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nothing_in_a_repository_ends_it_without_a_judgement(project: Path, tmp_path: Path, what: str) -> None:
    other = shutil.copytree(project, tmp_path / "other", ignore=shutil.ignore_patterns(".git"))
    for change in NONSENSE[what]:
        change(other)
    told = conformance(project, other)
    assert told.returncode in {0, 1}, told.stderr
    assert told.stdout.endswith(("rules hold.\n", "were judged.\n"))
    assert not re.search("rego|error|parse", told.stderr), told.stderr


def test_values_that_nobody_knows_are_no_finding_of_their_own(project: Path) -> None:
    replace("infra/check.env", "JWT_SECRET=check\n", "")(project)
    assert findings(project) == []


# ----- Exceptions -------------------------------------------------------------------------------------------------

EXCEPTIONS = "infra/custom/conformance.yml"


def allow(project: Path, *entries: dict[str, object]) -> None:
    """Write the file of exceptions."""
    (project / EXCEPTIONS).write_text(yaml.safe_dump({"exceptions": list(entries)}), encoding="utf-8")


REASON = "The image writes beside its program, and is replaced in spring"


def test_an_exception_covers_what_it_names_and_is_shown(project: Path) -> None:
    service(read_only=None)(project)
    allow(project, {"rule": "10.2", "where": "cache", "reason": REASON, "until": "2999-12-31"})
    told = conformance(project)
    assert told.returncode == 0, told.stdout
    assert (
        f"excepted  10.2  infra/custom/compose.yml: cache can write to its root file system ({REASON})" in told.stdout
    )
    allow(project, {"rule": "10.2", "where": "worker", "reason": REASON})
    told = conformance(project)
    assert told.returncode == 1
    assert "the exception from 10.2 for worker is not needed any more" in told.stdout
    allow(project, {"rule": "10.2", "where": "infra/custom/compose.yml", "reason": REASON})
    assert findings(project) == []


def test_an_exception_ends_on_its_day(project: Path) -> None:
    service(read_only=None)(project)
    # As a person writes it, which YAML reads as a date.
    text = f'exceptions:\n  - rule: "10.2"\n    reason: {REASON}\n    until: {LONG_AGO}\n'
    (project / EXCEPTIONS).write_text(text, encoding="utf-8")
    assert [found["seen"] for found in findings(project)] == [
        f"the exception from 10.2 has ended on {LONG_AGO}",
        "cache can write to its root file system",
    ]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"rule": 10.2, "reason": REASON}, "rule 10.2 needs quotes"),
        ({"rule": "99.1", "reason": REASON}, "there is no rule 99.1"),
        ({"reason": REASON}, "there is no rule without a number"),
        ({"rule": "10.2"}, "has no reason"),
        ({"rule": "10.2", "reason": "because"}, "has no reason"),
        ({"rule": "10.2", "reason": REASON, "until": "next spring"}, "which is no date"),
        ("10.2", "an entry is not a list of names and values"),
    ],
)
def test_an_exception_that_says_too_little_is_refused(project: Path, entry: dict[str, object], said: str) -> None:
    allow(project, entry)
    [found] = findings(project)
    assert (found["rule"], found["file"]) == ("exceptions", EXCEPTIONS)
    assert said in found["seen"]


def test_a_file_of_exceptions_that_cannot_be_read_is_refused(project: Path) -> None:
    (project / EXCEPTIONS).write_text("exceptions: [\n", encoding="utf-8")
    assert [found["seen"] for found in findings(project)] == ["the file is no YAML"]


# ----- The program ------------------------------------------------------------------------------------------------


def test_list_names_every_rule_and_help_explains(project: Path) -> None:
    listed = conformance(project, "--list").stdout.splitlines()
    assert listed == [f"{rule}  {about['text']}" for rule, about in RULES.items()]
    assert "infra/custom/conformance.yml" in conformance(project, "--help").stdout


def test_without_opa_and_docker_it_says_what_to_install(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    programs = (
        "bash",
        "cat",
        "cp",
        "cut",
        "date",
        "dirname",
        "env",
        "find",
        "git",
        "grep",
        "head",
        "id",
        "jq",
        "mktemp",
    )
    for tool in (*programs, "mv", "paste", "rm", "sed", "tr", "wc", "xargs", "docker", "docker-compose"):
        (tools / tool).symlink_to(require(tool))
    told = conformance(project, env={"PATH": str(tools), "DOCKER_HOST": "tcp://127.0.0.1:9"})
    assert told.returncode == 1
    assert "neither opa nor a Docker engine is here" in told.stderr


def test_it_changes_nothing(project: Path) -> None:
    before = rendering.contents(project)
    conformance(project)
    assert rendering.changes(before, rendering.contents(project)) == []


def test_rego_is_formatted_and_strict(rendered: Callable[[str], Path]) -> None:
    policy = rendered("default") / "infra/conformance"
    opa = require("opa", version_args=("version",))
    assert run([opa, "fmt", "--list", policy]).stdout == ""
    run([opa, "check", "--strict", policy])


def test_the_image_is_of_the_version_that_the_tests_run() -> None:
    tools = (rendering.ROOT / ".ci/tools.env").read_text(encoding="utf-8")
    assert f"OPA_VERSION=v{pins.load()['images']['opa']['tag'].removesuffix('-static')}\n" in tools
