"""The whole life of the servers at Hetzner Cloud: made, left alone, changed, opened for a deploy, lost, destroyed.

Terraform and the provider are the real ones; `cloud.py` stands for the provider's API.
"""

from __future__ import annotations

import copy
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import yaml

from tests import profiles, rendering, tooling
from tests.docs import reading
from tests.terraform.cloud import Cloud, cloud
from tests.terraform.conftest import KEY, terraform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

TOKEN = "made-up" * 9 + "t"
DEPLOYS_FROM = "198.51.100.7"


@dataclass
class Life:
    """A project whose servers exist, and where they exist."""

    project: Path
    cloud: Cloud

    def terraform(self, *words: str, check: bool = True) -> CompletedProcess[str]:
        """Run Terraform as its operator does."""
        # How long the provider waits between two looks at an action: less than it does at the real API.
        env = {"HCLOUD_TOKEN": TOKEN, "HCLOUD_ENDPOINT": self.cloud.url, "HCLOUD_POLL_INTERVAL": "20ms"}
        done = terraform(self.project / "infra/terraform", *words, "-no-color", check=check, **env)
        assert TOKEN not in done.stdout + done.stderr
        return done

    def apply(self, *words: str) -> str:
        """Apply, and tell what was changed."""
        return self.terraform("apply", "-auto-approve", "-input=false", *words).stdout

    def finds_nothing_to_do(self) -> bool:
        """Tell whether a plan is empty."""
        self.cloud.changes()
        told = self.terraform("plan", "-input=false", "-detailed-exitcode", check=False)
        assert told.returncode in (0, 2), told.stderr
        assert self.cloud.changes() == [], "a plan changed something"
        return told.returncode == 0

    def write(self, name: str, text: str) -> None:
        """Write a file of the operator's own."""
        (self.project / "infra/terraform" / name).write_text(text, encoding="utf-8")

    def firewall(self, *words: str) -> None:
        """Run infra/bin/firewall as a job does."""
        tooling.require("jq")
        env = {"HCLOUD_TOKEN": TOKEN, "HCLOUD_ENDPOINT": self.cloud.url, "MY_ADDRESS": DEPLOYS_FROM}
        tooling.run([self.project / "infra/bin/firewall", *words], env={**env, "GITHUB_RUN_ID": "7"})


@contextmanager
def begun(project: Path) -> Iterator[Life]:
    """A project of which nothing exists yet."""
    with cloud(TOKEN) as made:
        life = Life(project, made)
        life.write("custom.auto.tfvars", f'ssh_public_keys = {{ anna = "{KEY}" }}\n')
        life.terraform("init", "-input=false")
        yield life


@pytest.fixture(scope="module")
def first(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The servers after the first apply. Not to be changed: `life` is a copy."""
    given = {**profiles.REQUIRED, "provisioning": "terraform_ansible", "terraform_state": "local"}
    project = rendering.render(source, tmp_path_factory.mktemp("first") / "project", given)
    with begun(project) as life:
        life.apply()
        yield life


@pytest.fixture
def life(first: Life, tmp_path: Path) -> Iterator[Life]:
    """Servers of one's own, just made."""
    project = shutil.copytree(first.project, tmp_path / "project", symlinks=True)
    with cloud(TOKEN) as made:
        made.things, made.actions = copy.deepcopy(first.cloud.things), copy.deepcopy(first.cloud.actions)
        made.number = first.cloud.number
        yield Life(project, made)


def test_a_server_is_made_with_its_firewalls_addresses_and_volume(first: Life) -> None:
    made = first.cloud
    servers = made.named("servers")
    assert set(servers) == {"harbour-shop-staging", "harbour-shop-production"}
    for name, server in servers.items():
        firewalls = [made.things["firewalls"][each["id"]]["name"] for each in server["public_net"]["firewalls"]]
        assert sorted(firewalls) == [name, f"{name}-permanent"]
        assert server["protection"] == {"delete": True, "rebuild": True}
        addresses = [each for each in made.named("primary_ips").values() if each["assignee_id"] == server["id"]]
        assert sorted(each["type"] for each in addresses) == ["ipv4", "ipv6"]
        host = "api.shop.example.com" if name.endswith("production") else "api.staging.shop.example.com"
        assert [ptr["dns_ptr"] for each in addresses for ptr in each["dns_ptr"]] == [host, host]
        (volume,) = server["volumes"]
        assert made.things["volumes"][volume]["name"] == f"{name}-data"
        assert len(server["private_net"]) == 1
        boot = yaml.safe_load(server["user_data"])
        assert boot["users"][1]["ssh_authorized_keys"] == [KEY]
        assert boot["runcmd"] == [["/usr/local/sbin/mount-data-volume", made.things["volumes"][volume]["linux_device"]]]
        assert TOKEN not in server["user_data"]
    assert {name: bool(server["backup_window"]) for name, server in servers.items()} == {
        "harbour-shop-staging": False,
        "harbour-shop-production": True,
    }
    for kind in ("primary_ips", "volumes", "networks"):
        assert all(each["protection"]["delete"] for each in made.things[kind].values()), kind


def test_the_permanent_rules_are_those_of_the_runbook(first: Life) -> None:
    for environment in ("staging", "production"):
        rules = first.cloud.named("firewalls")[f"harbour-shop-{environment}-permanent"]["rules"]
        assert {(each["protocol"], each["port"], *sorted(each["source_ips"])) for each in rules} == {
            ("tcp", "22", "203.0.113.7/32"),
            ("tcp", "80", "0.0.0.0/0", "::/0"),
            ("tcp", "443", "0.0.0.0/0", "::/0"),
            ("udp", "443", "0.0.0.0/0", "::/0"),
            ("icmp", None, "0.0.0.0/0", "::/0"),
        }
        assert first.cloud.named("firewalls")[f"harbour-shop-{environment}"]["rules"] == []


def test_a_second_plan_finds_nothing_to_do(life: Life) -> None:
    assert life.finds_nothing_to_do()


def test_ansible_reads_the_inventory_as_it_is_told(life: Life) -> None:
    told = life.terraform("output", "-raw", "ansible_inventory").stdout
    addresses = {
        each["assignee_id"]: each["ip"] for each in life.cloud.named("primary_ips").values() if each["type"] == "ipv4"
    }
    children = yaml.safe_load(told)["all"]["children"]
    for environment, private in (("staging", "10.10.0.10"), ("production", "10.20.0.10")):
        server = life.cloud.named("servers")[f"harbour-shop-{environment}"]
        assert children[environment]["hosts"] == {
            environment: {"ansible_host": addresses[server["id"]], "ansible_user": "admin", "private_ip": private}
        }


def test_changes_are_made_in_place(life: Life) -> None:
    before = {name: server["id"] for name, server in life.cloud.named("servers").items()}
    life.write(
        "custom.auto.tfvars",
        f'ssh_public_keys = {{ anna = "{KEY}", bob = "{KEY.replace("AAAAIGxp", "AAAAIGxq")}" }}\n'
        'admin_networks = ["203.0.113.7/32", "198.51.100.0/24"]\n'
        "backups = { staging = true, production = true }\n"
        "volume_sizes = { staging = 20, production = 40 }\n"
        'image = "debian-14"\n',
    )
    life.cloud.changes()
    told = life.apply()
    assert re.search(r"^Apply complete! Resources: 1 added, \d+ changed, 0 destroyed\.", told, re.MULTILINE), told
    assert {name: server["id"] for name, server in life.cloud.named("servers").items()} == before
    assert life.cloud.named("servers")["harbour-shop-staging"]["backup_window"]
    assert life.cloud.named("volumes")["harbour-shop-staging-data"]["size"] == 20
    for environment in ("staging", "production"):
        rules = life.cloud.named("firewalls")[f"harbour-shop-{environment}-permanent"]["rules"]
        (ssh,) = [each for each in rules if each["port"] == "22"]
        assert sorted(ssh["source_ips"]) == ["198.51.100.0/24", "203.0.113.7/32"]
    assert life.finds_nothing_to_do()


def test_the_rule_of_a_deploy_is_left_alone_by_terraform_and_the_permanent_ones_by_the_deploy(life: Life) -> None:
    permanent = copy.deepcopy(life.cloud.named("firewalls")["harbour-shop-staging-permanent"]["rules"])
    life.firewall("open", "staging")
    (opened,) = life.cloud.named("firewalls")["harbour-shop-staging"]["rules"]
    assert opened["source_ips"] == [f"{DEPLOYS_FROM}/32"]
    assert life.finds_nothing_to_do()
    # A change of the permanent rules in the middle of a deploy.
    life.apply("-var", 'admin_networks=["192.0.2.0/24"]')
    assert life.cloud.named("firewalls")["harbour-shop-staging"]["rules"] == [opened]
    life.apply()
    life.firewall("close", "staging")
    assert life.cloud.named("firewalls")["harbour-shop-staging"]["rules"] == []
    assert life.cloud.named("firewalls")["harbour-shop-staging-permanent"]["rules"] == permanent
    assert life.finds_nothing_to_do()


def test_another_way_of_delivery_renames_firewalls_and_leaves_no_server_open(life: Life) -> None:
    environments = ("harbour-shop-production", "harbour-shop-staging")
    life.apply("-var", "temporary_rules=false")
    alone = {name: len(each["rules"]) for name, each in life.cloud.named("firewalls").items()}
    assert alone == dict.fromkeys(environments, 5)
    life.apply()
    both = {name: len(each["rules"]) for name, each in life.cloud.named("firewalls").items()}
    assert both == {**dict.fromkeys(environments, 0), **{f"{name}-permanent": 5 for name in environments}}
    assert all(len(each["applied_to"]) == 1 for each in life.cloud.named("firewalls").values())


PROTECTED = ("hcloud_server.server", "hcloud_primary_ip.ipv4", "hcloud_primary_ip.ipv6", "hcloud_volume.data")


def unprotect(life: Life) -> None:
    """Say in the operator's own file that Terraform may plan to destroy."""
    blocks = [
        'resource "{}" "{}" {{\n  lifecycle {{\n    prevent_destroy = false\n  }}\n}}\n'.format(*each.split("."))
        for each in PROTECTED
    ]
    life.write("custom_override.tf", "".join(blocks))


def test_nothing_is_destroyed_until_both_protections_are_switched_off(life: Life) -> None:
    count = life.cloud.count()
    life.cloud.changes()
    told = life.terraform("destroy", "-auto-approve", check=False)
    assert told.returncode == 1
    assert "Instance cannot be destroyed" in told.stderr
    assert life.cloud.changes() == [], "it was refused only after something was taken apart"

    unprotect(life)
    told = life.terraform("destroy", "-auto-approve", check=False)
    assert told.returncode == 1
    assert "deletion is protected (protected" in told.stderr
    assert len(life.cloud.things["servers"]) == 2
    assert len(life.cloud.things["volumes"]) == 2
    assert len(life.cloud.things["primary_ips"]) == 4

    life.apply()  # what was detached comes back
    assert life.cloud.count() == count
    life.apply("-var", "protection=false")
    life.terraform("destroy", "-auto-approve", "-var", "protection=false")
    assert life.cloud.count() == 0


def test_a_server_that_was_lost_comes_back_with_its_addresses_and_its_data(life: Life) -> None:
    old = life.cloud.named("servers")["harbour-shop-production"]
    volume = old["volumes"]
    addresses = {each["ip"] for each in life.cloud.named("primary_ips").values() if each["assignee_id"] == old["id"]}
    del life.cloud.things["servers"][old["id"]]
    life.cloud._let_go(old["id"])
    assert not life.finds_nothing_to_do()
    life.apply()
    new = life.cloud.named("servers")["harbour-shop-production"]
    assert new["id"] != old["id"]
    assert new["volumes"] == volume
    assert {
        each["ip"] for each in life.cloud.named("primary_ips").values() if each["assignee_id"] == new["id"]
    } == addresses
    assert life.finds_nothing_to_do()


def test_a_server_is_made_anew_on_purpose_as_the_readme_says(life: Life) -> None:
    old = copy.deepcopy(life.cloud.named("servers"))
    blocks = [
        each.code for each in reading.blocks(life.project / "infra/terraform/README.md") if "-replace=" in each.code
    ]
    (override, _, commands) = blocks[0].partition("HCL\nterraform")
    life.write("custom_override.tf", override.partition("<<'HCL'\n")[2])
    for line in f"terraform{commands}".splitlines():
        words = line.replace("'", "").split()
        if words[0] == "rm":
            (life.project / words[1]).unlink()
        else:
            assert words[:2] == ["terraform", "-chdir=infra/terraform"]
            life.terraform(words[2], "-auto-approve", *words[3:])
    new = life.cloud.named("servers")
    assert new["harbour-shop-staging"]["id"] != old["harbour-shop-staging"]["id"]
    assert new["harbour-shop-staging"]["volumes"] == old["harbour-shop-staging"]["volumes"]
    assert new["harbour-shop-production"]["id"] == old["harbour-shop-production"]["id"]
    assert all(each["protection"]["delete"] for each in new.values())
    assert life.finds_nothing_to_do()


def test_the_state_holds_no_secret(life: Life) -> None:
    state = (life.project / "infra/terraform/terraform.tfstate").read_text(encoding="utf-8")
    assert TOKEN not in state
    assert "root_password" not in state


def test_a_wrong_token_is_told_and_not_shown(life: Life) -> None:
    life.cloud.token = "another"
    told = life.terraform("plan", "-input=false", check=False)
    assert told.returncode == 1
    assert "unable to authenticate" in told.stderr
