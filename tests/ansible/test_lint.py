"""The roles and the playbook, as ansible-lint, yamllint, shellcheck and Ansible itself read them."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import answers, profiles, rendering
from tests.tooling import REPO, require, run, search_path

FOLDER = "infra/ansible"
OURS = {"ansible", "terraform_ansible"}


@pytest.fixture(scope="session")
def projects(rendered: Callable[[str], Path]) -> list[Path]:
    """A project for every combination of answers that has Ansible."""
    return [
        rendered(name) for name, given in profiles.combinations_by_name().items() if given.get("provisioning") in OURS
    ]


def environment(home: Path) -> dict[str, str]:
    """An environment of nobody's own settings, in which the tests' Ansible comes first."""
    return {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8", "HOME": str(home), "ANSIBLE_HOME": str(home)}


def different(projects: Iterable[Path]) -> list[Path]:
    """Those projects whose files differ in more than the answers that are text."""
    found: dict[tuple[Any, ...], Path] = {}
    for project in projects:
        given = answers.recorded(project)
        found.setdefault((given["provisioning"], given["delivery"]), project)
    assert len(found) >= 3
    return list(found.values())


def test_ansible_lint_as_strict_as_for_production(projects: list[Path], tmp_path: Path) -> None:
    for project in different(projects):
        before = rendering.contents(project / FOLDER)
        run([require("ansible-lint"), "--nocolor", "-q"], cwd=project / FOLDER, env=environment(tmp_path))
        assert rendering.changes(before, rendering.contents(project / FOLDER)) == []


def test_ansible_lint_would_find_something(make_project: Callable[[str], Path], tmp_path: Path) -> None:
    project = make_project("managed-bundle")
    tasks = project / FOLDER / "roles/base/tasks/main.yml"
    tasks.write_text(tasks.read_text(encoding="utf-8") + "\n- ansible.builtin.command: id\n", encoding="utf-8")
    told = run([project / "infra/bin/check", "ansible"], env=environment(tmp_path), check=False)
    assert told.returncode == 1
    assert "name[missing]" in told.stdout
    assert "no-changed-when" in told.stdout


def test_check_passes_on_a_fresh_project(make_project: Callable[[str], Path], tmp_path: Path) -> None:
    project = make_project("managed-bundle")
    told = run([project / "infra/bin/check", "ansible"], env=environment(tmp_path))
    assert re.fullmatch(r"ansible\n  passed in \d+ s\n\nEverything passed.\n", told.stdout), told.stdout


def test_ansible_reads_the_playbook_and_finds_both_servers(projects: list[Path], tmp_path: Path) -> None:
    for project in different(projects):
        for words in (["--syntax-check"], ["--list-hosts"]):
            command: list[str | Path] = [require("ansible-playbook"), *words, "site.yml"]
            told = run(command, cwd=project / FOLDER, env=environment(tmp_path)).stdout
        assert sorted(told.split()[-2:]) == ["production", "staging"]


def test_what_fails_on_staging_never_reaches_production(projects: list[Path], tmp_path: Path) -> None:
    nowhere = ["-e", "ansible_host=127.0.0.1", "-e", "ansible_port=1", "-e", "ansible_ssh_retries=0"]
    command: list[str | Path] = [require("ansible-playbook"), "site.yml", *nowhere]
    told = run(command, cwd=projects[0] / FOLDER, env=environment(tmp_path), check=False)
    assert told.returncode != 0
    assert "[staging]" in told.stdout + told.stderr
    assert "[production]" not in told.stdout + told.stderr


def test_yamllint(projects: list[Path]) -> None:
    rules = "{extends: default, rules: {line-length: {max: 140}, braces: {max-spaces-inside: 1}}}"
    for project in different(projects):
        files = sorted((project / FOLDER).rglob("*.yml"))
        assert len(files) > 15
        run([require("yamllint"), "--strict", "--config-data", rules, *files])


def test_shellcheck(projects: list[Path]) -> None:
    run([require("shellcheck"), *sorted((projects[0] / FOLDER).glob("roles/*/files/*"))])


def test_a_role_can_be_read_on_a_screen(projects: list[Path]) -> None:
    for file in (projects[0] / FOLDER).glob("roles/*/tasks/*.yml"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 120, file


def settings(project: Path) -> dict[str, Any]:
    """Every variable with its default."""
    text = (project / FOLDER / "group_vars/all/10-settings.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_every_variable_is_documented_in_one_place_and_is_used(projects: list[Path]) -> None:
    for project in different(projects):
        folder = project / FOLDER
        text = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.suffix in (".yml", ".j2"))
        lines = (folder / "group_vars/all/10-settings.yml").read_text(encoding="utf-8").splitlines()
        for name in settings(project):
            assert len(re.findall(rf"\b{name}\b", text)) > 1, name
            assert sum(line.startswith(f"{name}:") for line in lines) == 1
        assert not list(folder.glob("roles/*/defaults"))


def test_answers_arrive_as_they_are(projects: list[Path]) -> None:
    for project in projects:
        given, values = answers.recorded(project), settings(project)
        assert values["project"] == given["project_slug"]
        assert values["app_folder"] == f"/opt/{given['project_slug']}"
        assert ("pull_image" in values) == (given["delivery"] == "server_pull")
        hosts = yaml.safe_load((project / FOLDER / "inventory/hosts.yml").read_text(encoding="utf-8"))
        assert {name: facts["ansible_host"] for name, facts in hosts["servers"]["hosts"].items()} == {
            "staging": f"api.{given['staging_domain']}",
            "production": f"api.{given['production_domain']}",
        }


def test_only_modules_of_ansible_itself_are_used(projects: list[Path]) -> None:
    """No collection has to be fetched: there is nothing to pin, and nothing that may be gone."""
    for file in (projects[0] / FOLDER).rglob("*.yml"):
        names = set(re.findall(r"(?m)^ *(?:- )?([a-z_]+\.[a-z_]+\.[a-z_]+):", file.read_text(encoding="utf-8")))
        assert {name for name in names if not name.startswith("ansible.builtin.")} == set(), file


def test_projects_are_told_the_version_that_is_tested() -> None:
    pins = tomllib.loads((REPO / "extensions/pins.toml").read_text(encoding="utf-8"))["versions"]
    wanted = (REPO / "requirements/dev.in").read_text(encoding="utf-8")
    for name in ("ansible-core", "ansible-lint"):
        assert f"{name}=={pins[name]['version']}\n" in wanted


def test_projects_without_ansible_have_none_of_it(rendered: Callable[[str], Path]) -> None:
    project = rendered("default")
    assert not (project / FOLDER).exists()
    assert "ansible" not in run([project / "infra/bin/check", "--list"]).stdout


@cache
def admitted() -> Callable[[str, str], bool]:
    """The filter that decides whether a connection would be let in."""
    names: dict[str, Any] = {}
    (path,) = (REPO / "template/infra").glob("*ansible*/filter_plugins/admitted.py")
    exec(compile(path.read_text(encoding="utf-8"), path.name, "exec"), names)  # noqa: S102
    found: Callable[[str, str], bool] = names["admitted_to_ssh"]
    return found


@pytest.mark.parametrize(
    ("address", "rule", "expected"),
    [
        ("203.0.113.7", "ip saddr { 203.0.113.7/32 } tcp dport 22 accept", True),
        ("203.0.113.8", "ip saddr { 203.0.113.7/32 } tcp dport 22 accept", False),
        ("10.9.8.7", "ip saddr { 203.0.113.7/32, 10.0.0.0/8 } tcp dport 22 accept", True),
        ("2001:db8:12::5", "ip6 saddr { 2001:db8:12::/48 } tcp dport 22 accept", True),
        ("2001:db8:13::5", "ip6 saddr { 2001:db8:12::/48 } tcp dport 22 accept", False),
        ("2001:db8:12::5", "ip saddr { 203.0.113.7/32 } tcp dport 22 accept", False),
        ("::ffff:203.0.113.7", "ip saddr { 203.0.113.7/32 } tcp dport 22 accept", True),
        ("203.0.113.8", 'tcp dport 22 accept comment "the provider decides"', True),
        ("203.0.113.8", "# tcp dport 22 accept", False),
        ("203.0.113.8", "tcp dport 2222 accept", False),
        ("203.0.113.8", "tcp dport 22 accepted", False),
        ("203.0.113.8", "tcp dport { 22, 80 } accept", False),  # words that it does not know count as closed
        ("", "tcp dport 22 accept", False),
    ],
)
def test_who_is_admitted_to_ssh(address: str, rule: str, expected: bool) -> None:
    assert admitted()(address, f"chain input {{\n    {rule}\n}}\n") is expected


def test_the_rules_of_every_project_admit_its_admin_networks(projects: list[Path]) -> None:
    for project in projects:
        given = answers.recorded(project)
        rules = (project / "infra/server/nftables.conf").read_text(encoding="utf-8")
        for network in re.split(r"[\s,]+", given["admin_networks"]):
            assert admitted()(
                network.partition("/")[0].replace("::", "::1") if ":" in network else network.partition("/")[0], rules
            )
        assert admitted()("192.0.2.99", rules) == (given["delivery"] == "firewall_rule")


def test_undo_access_explains_itself(projects: list[Path]) -> None:
    told = subprocess.run(
        ["sh", projects[0] / FOLDER / "roles/access/files/undo-access"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 2
    assert "Usage: undo-access keep|restore" in told.stdout
