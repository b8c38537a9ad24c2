"""What is generated for every combination of answers: the real providers accept it, and its own tests can fail."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import answers, profiles
from tests.terraform.conftest import KEY, RARE, has_provider, terraform
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMBINATIONS = {
    name: given
    for name, given in profiles.combinations_by_name().items()
    if str(given.get("provisioning", "manual")).startswith("terraform")
}


def test_both_providers_processors_states_databases_and_ways_of_delivery_are_among_them() -> None:
    recorded = [
        {"hosting_provider": "hetzner", "server_architecture": "amd64", "database": "container", **given}
        for given in COMBINATIONS.values()
    ]
    for question in ("hosting_provider", "server_architecture", "database", "delivery", "terraform_state"):
        offered = set(profiles.choices(profiles.questions()[question])) - {"other"}
        assert offered <= {given.get(question) for given in recorded}, question


def test_every_file_is_formatted(rendered: Callable[[str], Path], tmp_path: Path) -> None:
    folders = [rendered(name) / "infra/terraform" for name in COMBINATIONS]
    told = terraform(folders[0], "fmt", "-check", "-diff", "-recursive", *map(str, folders), check=False)
    assert told.returncode == 0, told.stdout
    broken = shutil.copytree(folders[-1], tmp_path / "broken")
    (broken / "custom.tf").write_text("locals {\na=1\n}\n", encoding="utf-8")
    assert terraform(broken, "fmt", "-check", "-recursive", str(folders[0]), str(broken), check=False).returncode == 3


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_real_providers_accept_it_and_its_own_tests_pass(configuration: Callable[[str], Path], name: str) -> None:
    folder = configuration(name)
    terraform(folder, "init", "-backend=false", "-input=false", "-no-color")
    found = json.loads(terraform(folder, "validate", "-json").stdout)
    assert found["diagnostics"] == []
    told = terraform(folder, "test", "-no-color", check=False)
    assert re.search(r"^Success! \d+ passed, 0 failed\.$", told.stdout, re.MULTILINE), told.stdout + told.stderr
    assert told.stdout.count("... pass\n") >= 15


@pytest.mark.parametrize(("provider", "file"), RARE.items())
def test_a_provider_that_can_be_had_is_used_for_its_file(
    rendered: Callable[[str], Path], configuration: Callable[[str], Path], provider: str, file: str
) -> None:
    assert (rendered("terraform-ovh") / "infra/terraform" / file).is_file()
    if not has_provider(provider):
        # Not an error in CI either: no package registry that is reached from there has it.
        pytest.skip(f"the provider {provider} cannot be had here: {file} is formatted, and checked no further")
    assert (configuration("terraform-ovh") / file).is_file()


BROKEN = {
    "SSH for everybody": ("firewall.tf", "= var.admin_networks", "= local.everywhere"),
    "one port more": ("firewall.tf", 'port        = "80"', 'port        = "80-81"'),
    "a firewall that infra/bin/firewall does not find": (
        "firewall.tf",
        "  name   = local.names[each.key]\n",
        '  name   = "${local.names[each.key]}-open"\n',
    ),
    "a server without a firewall": ("servers.tf", "firewall_ids = local.firewall_ids[each.key]", "firewall_ids = []"),
    "no protection": ("servers.tf", "= var.protection", "= false"),
    "an address that goes with its server": ("addresses.tf", "= false", "= true"),
    "a volume without protection": ("storage.tf", "delete_protection = var.protection", "delete_protection = false"),
    "no backups": ("servers.tf", "= var.backups[each.key]", "= false"),
    "one network for both": ("network.tf", "var.private_networks[each.key]", 'var.private_networks["staging"]'),
    "passwords": ("cloud-init.tf", "ssh_pwauth = false", "ssh_pwauth = true"),
    "half the world for admins": ("variables.tf", "19 : 8", "19 : 1"),
    "a world of IPv6 for admins": ("variables.tf", "19 : 8", "0 : 8"),
}


def test_its_own_tests_find_what_somebody_breaks(configuration: Callable[[str], Path]) -> None:
    folder = configuration("terraform")
    terraform(folder, "init", "-backend=false", "-input=false")
    not_found = []
    for what, (file, old, new) in BROKEN.items():
        path = folder / file
        right = path.read_text(encoding="utf-8")
        assert old in right, what
        path.write_text(right.replace(old, new), encoding="utf-8")
        tests = "refused" if file == "variables.tf" else "hetzner"
        told = terraform(folder, "test", "-no-color", f"-filter=tests/{tests}.tftest.hcl", check=False)
        if "Test assertion failed" not in told.stderr and "Missing expected failure" not in told.stderr:
            not_found.append((what, told.stdout[-600:] + told.stderr[-600:]))
        path.write_text(right, encoding="utf-8")
    assert not_found == []


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_firewalls_have_the_names_that_the_scripts_look_for(rendered: Callable[[str], Path], name: str) -> None:
    project = rendered(name)
    facts = (project / "infra/deploy.conf").read_text(encoding="utf-8")
    recorded = answers.recorded(project)
    opened = dict(re.findall(r"^(STAGING|PRODUCTION)_FIREWALL=(.*)$", facts, re.MULTILINE))
    values = (project / "infra/terraform/terraform.tfvars").read_text(encoding="utf-8")
    assert f'project      = "{recorded["project_slug"]}"\n' in values
    temporary = recorded["delivery"] == "firewall_rule"
    assert f"temporary_rules = {str(temporary).lower()}\n" in values
    assert opened == (
        {which: f"{recorded['project_slug']}-{which.lower()}" for which in ("STAGING", "PRODUCTION")}
        if temporary
        else {}
    )


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_admin_networks_are_those_that_were_answered(rendered: Callable[[str], Path], name: str) -> None:
    project = rendered(name)
    values = (project / "infra/terraform/terraform.tfvars").read_text(encoding="utf-8")
    listed = re.search(r"^admin_networks = \[\n(.*?)^\]", values, re.MULTILINE | re.DOTALL)
    assert listed
    assert re.findall(r'"(.*)"', listed[1]) == answers.recorded(project)["admin_networks"].split()


@pytest.mark.parametrize("name", COMBINATIONS)
def test_no_token_has_a_place_in_a_file(rendered: Callable[[str], Path], name: str) -> None:
    folder = rendered(name) / "infra/terraform"
    for file in [*folder.glob("*.tf"), *folder.glob("*.tfvars"), *folder.glob("*.hcl")]:
        settings = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
        assert not re.search(
            r"(?i)\b(token|password|secret\w*|access_key|application_key|sse_customer_key)\s*=", settings
        ), file


def test_data_that_only_the_providers_backups_save_stays_on_the_disk_that_they_save(
    rendered: Callable[[str], Path],
) -> None:
    values = (rendered("terraform-local") / "infra/terraform/terraform.tfvars").read_text(encoding="utf-8")
    assert "staging    = 0\n  production = 0\n" in values
    assert "production = true\n" in values


def test_the_script_that_mounts_the_volume_is_clean(rendered: Callable[[str], Path]) -> None:
    run([require("shellcheck"), rendered("terraform") / "infra/terraform/mount-data-volume.sh"])


def test_nobody_can_plan_before_somebody_can_log_in(configuration: Callable[[str], Path]) -> None:
    folder = configuration("terraform-local")
    terraform(folder, "init", "-input=false")
    told = terraform(folder, "plan", "-input=false", "-no-color", check=False, HCLOUD_TOKEN="t" * 64)
    assert told.returncode == 1
    assert "Write at least one public key into custom.auto.tfvars" in " ".join(
        re.sub(r"[│╵╷]", "", told.stderr).split()
    )
    (folder / "custom.auto.tfvars").write_text(f'ssh_public_keys = {{ anna = "{KEY}" }}\n', encoding="utf-8")
    told = terraform(folder, "plan", "-input=false", "-no-color", check=False)
    assert "Missing Hetzner Cloud API token" in told.stderr or "token" in told.stderr.lower()
