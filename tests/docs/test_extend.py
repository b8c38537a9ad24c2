"""docs/extend.md: every example, taken from the page and applied to a project, works, and survives updates."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import profiles, rendering
from tests.ansible.test_lint import environment as ansible_environment
from tests.build.conftest import commit, make_project
from tests.build.test_conformance import findings
from tests.database.server import Server
from tests.docs import reading
from tests.proxy.test_files import caddy, nginx_test
from tests.terraform.conftest import made_usable, terraform
from tests.tooling import actionlint, require, run
from tests.update import releases

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_project"]

PAGES = ("extend.md", "conformance.md")
# The only example that is a line more, not a whole file.
ADDED = ".env.example"


@cache
def examples() -> dict[str, str]:
    """Every example by the file that it is."""
    found = {}
    for page in PAGES:
        for block in reading.blocks(rendering.ROOT / "docs" / page):
            named = re.search(r"^(?:#|--) (\S+/\S+|\.env\.example)$", "\n".join(block.code.splitlines()[:2]), re.M)
            if named:
                found[named[1]] = block.code
    return found


def apply(project: Path, *patterns: str) -> list[str]:
    """Put the examples into a project whose files match one of the patterns; returns their names."""
    chosen = [file for file in examples() if any(re.match(pattern, file) for pattern in patterns)]
    assert chosen
    for file in chosen:
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if file == ADDED else ""
        text = examples()[file]
        path.write_text(before + (text.partition("\n")[2] if file == ADDED else text), encoding="utf-8")
    return chosen


COMPOSE = (
    r"infra/custom/(compose|services/)",
    r"infra/custom/\w+\.(env|conf)$",
    r"\.env\.example",
    r"infra/custom/test$",
)


def test_every_example_is_in_a_file_that_the_table_names() -> None:
    table = (rendering.ROOT / "docs/extend.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert len(examples()) == 22
    for file in examples():
        path = Path(file)
        places = [path.name, "SERVICE" + path.suffix, *(f"{parent}/" for parent in path.parents)]
        assert any(place in table for place in places if place not in {"./", "infra/", "infra/custom/"}), file


def test_every_folder_of_the_projects_own_is_in_the_table_of_ownership() -> None:
    """What Copier never touches is what the documents say is yours."""
    settings = yaml.safe_load((rendering.ROOT / "copier.yml").read_text(encoding="utf-8"))["_skip_if_exists"]
    pages = "".join(
        (rendering.ROOT / f"docs/{page}").read_text(encoding="utf-8") for page in ("update.md", "extend.md")
    )
    for pattern in settings:
        name = re.sub(r"/?\*\*$|\.\*$", "", pattern)
        short = name.removeprefix("infra/").removeprefix("ansible/").removeprefix("terraform/")
        assert short in pages or name in {"docs/adr", "docs/decisions"}, pattern


def composed(project: Path) -> dict[str, Any]:
    """What Compose makes of the project's files."""
    require("docker-compose")
    files = ["--env-file", "infra/check.env", "--env-file", "infra/custom/check.env"]
    told = run(
        ["docker", "compose", *files, "-f", "infra/docker-compose.prod.yml", "config", "--format", "json"],
        cwd=project,
        env={"COMPOSE_PROFILES": "*"},
    )
    assert told.stderr == ""
    model: dict[str, Any] = json.loads(told.stdout)
    return model


def test_a_service_a_volume_and_a_variable_become_part_of_what_compose_runs(
    make_project: Callable[[str], Path],
) -> None:
    project = make_project("default")
    before = composed_before(project)
    apply(project, *COMPOSE)
    model = composed(project)
    services = model["services"]
    assert services.keys() - before["services"].keys() == {"cache"}
    assert services["cache"]["image"].startswith("docker.io/valkey/valkey:9.0@sha256:")
    assert model["volumes"]["uploads"]["name"] == "harbour-shop_uploads"
    for slot in ("api-blue", "api-green"):
        [volume] = services[slot]["volumes"]
        assert (volume["source"], volume["target"]) == ("uploads", "/app/uploads")
        assert services[slot]["labels"] == {"com.example.team": "shop"}
        assert services[slot]["environment"]["Smtp__Host"] == "mail.example.com"
        assert services[slot]["environment"]["Smtp__Password"] == "check"
        # Everything else is as it was.
        more = {"volumes", "labels", "environment", "extends"}
        assert {name: value for name, value in services[slot].items() if name not in more} == {
            name: value for name, value in before["services"][slot].items() if name not in more
        }
    commit(project)
    told = run([project / "infra/bin/check", "compose", "shell", "env-example", "standards"], check=False)
    assert told.returncode == 0, told.stdout
    assert findings(project) == []


def composed_before(project: Path) -> dict[str, Any]:
    """What Compose made of the project as it was generated."""
    (project / "infra/custom/check.env").touch()
    return composed(project)


def test_what_the_generated_file_sets_itself_stays(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    weaker = {"api": {"read_only": False, "user": "0:0", "image": "other", "cap_add": ["SYS_ADMIN"]}}
    (project / "infra/custom/services/api.yml").write_text(yaml.safe_dump({"services": weaker}), encoding="utf-8")
    api = composed_before(project)["services"]["api-blue"]
    assert (api["read_only"], api["user"]) == (True, "1654:1654")
    assert api["image"] != "other"


def test_directives_and_sites_of_caddy_are_accepted(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    files = apply(project, r"infra/custom/caddy/")
    variables = dict.fromkeys(["web"])
    adapted = caddy("adapt", project / "infra", list(variables))[0]
    assert '"host":["docs.example.com"]' in adapted
    assert '"Location":["/new"]' in adapted
    assert "frame-ancestors" in adapted
    assert "Valid configuration" in "".join(caddy("validate", project / "infra", ["web"]))
    for file in files:
        run([require("caddy", version_args=["version"]), "fmt", "--diff", project / file])


def test_directives_and_sites_of_nginx_are_accepted(make_project: Callable[[str], Path], tmp_path: Path) -> None:
    project = make_project("nginx")
    apply(project, r"infra/custom/nginx/")
    own = project / "infra/custom/nginx/other_sites.conf"
    # The test's nginx has no ACME module; the generated sites are changed in the same way.
    text = own.read_text(encoding="utf-8")
    text, count = re.subn(r"(?m)^ +(acme_certificate|ssl_certificate|ssl_certificate_key|listen) .*\n", "", text)
    assert count == 5
    own.write_text(text, encoding="utf-8")
    assert "syntax is ok" in nginx_test(project / "infra", ["web"], tmp_path)
    own.write_text(text.replace("proxy_pass", "proxy_past"), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"custom/nginx/other_sites\.conf"):
        nginx_test(project / "infra", ["web"], tmp_path)


def test_smoke_lines_are_read_by_the_script(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    apply(project, r"infra/custom/smoke\.conf")
    script = f'. "{project}/infra/bin/lib.sh"; smoke_lines "$infra"'
    lines = [line for line in run(["bash", "-c", script]).stdout.splitlines() if not line.startswith("#")]
    services = {"api", "web"}
    assert [line.split()[:3] for line in lines] == [
        ["api", "/health", "200"],
        ["web", "/", "200"],
        ["web", "/admin", "302"],
    ]
    assert {line.split()[0] for line in lines} == services


def test_hooks_of_backups_run_in_postgresql(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    drill, anonymise = apply(project, r"infra/hooks/")
    server = Server()
    try:
        server.psql("postgres", "CREATE DATABASE shop")
        server.psql(
            "shop",
            """CREATE TABLE orders (placed_at timestamptz); CREATE TABLE sessions (id int);
               CREATE TABLE customers (id int, name text, email text);
               INSERT INTO orders VALUES (now() - interval '1 day');
               INSERT INTO customers VALUES (7, 'A real name', 'real@example.org');""",
        )
        server.psql("shop", (project / drill).read_text(encoding="utf-8"))
        server.psql("shop", (project / anonymise).read_text(encoding="utf-8"))
        assert server.value("shop", "SELECT name || ' ' || email FROM customers") == "Customer 7 customer-7@example.com"
        server.psql("shop", "UPDATE orders SET placed_at = now() - interval '3 days'")
        told = server.psql("shop", (project / drill).read_text(encoding="utf-8"), check=False)
        assert "no order of the last two days" in told.stderr
    finally:
        server.stop()


def test_terraform_accepts_values_resources_and_overrides(make_project: Callable[[str], Path], tmp_path: Path) -> None:
    project = make_project("terraform")
    apply(project, r"infra/terraform/")
    folder = made_usable(project, tmp_path / "terraform")
    terraform(folder, "fmt", "-check", "-diff")
    terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    assert json.loads(terraform(folder, "validate", "-json").stdout)["diagnostics"] == []
    told = terraform(folder, "test", "-no-color", check=False)
    assert re.search(r"^Success! \d+ passed, 0 failed\.$", told.stdout, re.MULTILINE), told.stdout + told.stderr
    # Values win over the generated ones, and the override reaches the servers.
    shown = (
        'mock_provider "hcloud" {}\nrun "own" {\n  command = plan\n'
        '  assert {\n    condition     = var.volume_sizes.production == 80\n    error_message = "size"\n  }\n'
        '  assert {\n    condition     = hcloud_placement_group.shop.type == "spread"\n'
        '    error_message = "group"\n  }\n}\n'
    )
    (folder / "tests/own.tftest.hcl").write_text(shown, encoding="utf-8")
    terraform(folder, "test", "-no-color", "-filter=tests/own.tftest.hcl")


def test_ansible_takes_values_and_playbooks(make_project: Callable[[str], Path], tmp_path: Path) -> None:
    project = make_project("managed-bundle")
    apply(project, r"infra/ansible/")
    folder = project / "infra/ansible"
    environment = ansible_environment(tmp_path)
    run([require("ansible-lint"), "--nocolor", "-q"], cwd=folder, env=environment)
    run([require("ansible-playbook"), "--syntax-check", "own.yml"], cwd=folder, env=environment)
    inventory = folder / "inventory/hosts.yml"
    inventory.write_text("all:\n  hosts:\n    staging: {}\n    production: {}\n", encoding="utf-8")
    for host, reboot in (("production", "04:30"), ("staging", "")):
        told = run([require("ansible-inventory"), "--host", host], cwd=folder, env=environment).stdout
        # Without the playbook's folder, group_vars stand beside the playbook; the inventory alone does not see them.
        told = run(
            [
                require("ansible"),
                host,
                "-c",
                "local",
                "-m",
                "debug",
                "-a",
                "msg={{ automatic_reboot_time }}/{{ swap_file_mib }}",
            ],
            cwd=folder,
            env={**environment, "ANSIBLE_LOCALHOST_WARNING": "false"},
        ).stdout
        assert f'"msg": "{reboot}/2048"' in told


def test_a_workflow_of_ones_own_passes_the_same_linters(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    [file] = apply(project, r"\.github/workflows/own")
    actionlint([project / file], "-shellcheck", require("shellcheck"))
    options = ["--offline", "--persona=pedantic", "--strict-collection", "--no-progress", "--quiet"]
    run([require("zizmor"), *options, project / file])
    assert findings(project) == []


def test_the_exception_is_taken(make_project: Callable[[str], Path]) -> None:
    project = make_project("default")
    apply(project, *COMPOSE, r"infra/custom/conformance\.yml")
    compose = project / "infra/custom/compose.yml"
    compose.write_text(compose.read_text(encoding="utf-8").replace("    read_only: true\n", ""), encoding="utf-8")
    assert findings(project) == []


@pytest.mark.parametrize("profile", ["default", "nginx", "terraform", "everything"])
def test_an_update_touches_none_of_it(profile: str, tmp_path: Path) -> None:
    template = releases.clone(tmp_path / "slipway")
    project = releases.start(template, "v0.4.0", tmp_path / "project", profiles.PROFILES[profile])
    files = apply(project, r".*")
    releases.commit(project, "What is different here")
    before = {file: (project / file).read_bytes() for file in files}
    releases.update(project)
    after = {file: (project / file).read_bytes() for file in files}
    assert [file for file in files if file != ADDED and after[file] != before[file]] == []
    assert "SMTP_PASSWORD=\n" in after[ADDED].decode()
    assert not list(project.rglob("*.rej"))
    told = run(["git", "diff", "--name-only", "--diff-filter=U"], cwd=project).stdout
    assert told == ""


@pytest.mark.parametrize("proxy", ["caddy", "nginx"])
def test_the_examples_of_the_folders_own_note_are_accepted(
    make_project: Callable[[str], Path], tmp_path: Path, proxy: str
) -> None:
    """infra/custom/README.md, which every project has."""
    project = make_project({"caddy": "default", "nginx": "nginx"}[proxy])
    custom = project / "infra/custom"
    blocks = reading.blocks(custom / "README.md")
    shutil.rmtree(custom / proxy, ignore_errors=True)
    (custom / proxy).mkdir()
    suffix, language = {"caddy": ("caddy", "caddyfile"), "nginx": ("conf", "nginx")}[proxy]
    directives, site = [block.code for block in blocks if block.language == language]
    (custom / proxy / f"web.{suffix}").write_text(directives, encoding="utf-8")
    if proxy == "caddy":
        (custom / proxy / f"other_sites.{suffix}").write_text(site, encoding="utf-8")
        assert "Valid configuration" in "".join(caddy("validate", project / "infra", ["web"]))
    else:
        assert "syntax is ok" in nginx_test(project / "infra", ["web"], tmp_path)
        assert site == examples()["infra/custom/nginx/other_sites.conf"].partition("\n")[2]
    volumes = [block.code for block in blocks if block.language == "yaml"]
    documents = [yaml.safe_load(code) for code in volumes]
    for name, document in zip(("services/api.yml", "compose.yml"), documents, strict=True):
        (custom / name).write_text(yaml.safe_dump(document), encoding="utf-8")
    [volume] = composed_before(project)["services"]["api-green"]["volumes"]
    assert volume["source"] == "uploads"
