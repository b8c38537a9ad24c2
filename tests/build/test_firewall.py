"""infra/bin/firewall: SSH is opened for one address and closed again, and what others have set stays as it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests import tooling
from tests.lab.hetzner import Hetzner, hetzner, web_and_admins
from tests.lab.openstack import REGION, OpenStack, openstack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

SECRET = "a-secret-of-the-provider"
MINE = "198.51.100.7"


def firewall(project: Path, *words: str, **env: str) -> CompletedProcess[str]:
    """Run the script as a job does."""
    tooling.require("jq")
    env = {"MY_ADDRESS": MINE, "GITHUB_RUN_ID": "77", "GITHUB_RUN_ATTEMPT": "1", **env}
    return tooling.run([project / "infra/bin/firewall", *words], cwd=project, env=env, check=False)


@pytest.fixture
def cloud() -> Iterator[Hetzner]:
    """A firewall at Hetzner Cloud, as the runbook orders it."""
    with hetzner("127.0.0.1", SECRET) as made:
        made.protect("harbour-shop-staging", None, web_and_admins("203.0.113.7/32"))
        yield made


@pytest.fixture
def project(rendered: Callable[[str], Path]) -> Path:
    """The project at Hetzner Cloud."""
    return rendered("default")


def test_hetzners_firewall_is_opened_for_one_address_and_closed_again(project: Path, cloud: Hetzner) -> None:
    before = cloud.rules["harbour-shop-staging"]
    env = {"HCLOUD_TOKEN": SECRET, "HCLOUD_ENDPOINT": cloud.address}
    told = firewall(project, "open", "staging", **env)
    assert told.returncode == 0, told.stderr
    assert SECRET not in told.stdout + told.stderr
    (added,) = [rule for rule in cloud.rules["harbour-shop-staging"] if rule not in before]
    assert (added["port"], added["protocol"], added["source_ips"]) == ("22", "tcp", [f"{MINE}/32"])
    # Again, as after a retry: still one rule.
    firewall(project, "open", "staging", **env)
    assert len(cloud.rules["harbour-shop-staging"]) == len(before) + 1
    told = firewall(project, "close", "staging", **env)
    assert told.returncode == 0, told.stderr
    assert cloud.rules["harbour-shop-staging"] == before
    assert set(cloud.actions.values()) == {"success"}, "nobody waited until the rules were applied"


def test_what_dead_runs_have_left_is_removed_and_what_living_ones_use_is_not(project: Path, cloud: Hetzner) -> None:
    before = cloud.rules["harbour-shop-staging"]
    rule = {
        "direction": "in",
        "protocol": "tcp",
        "port": "22",
        "destination_ips": [],
        "source_ips": ["198.51.100.9/32"],
    }
    dead = {**rule, "description": f"deploy 11-1 {int(time.time()) - 8000}"}
    living = {**rule, "description": f"deploy 12-1 {int(time.time()) - 60}"}
    by_hand = {**rule, "description": "deploy by hand, do not remove 1"}
    cloud.rules["harbour-shop-staging"] = [*before, dead, living, by_hand]
    told = firewall(project, "close", "staging", HCLOUD_TOKEN=SECRET, HCLOUD_ENDPOINT=cloud.address)
    assert told.returncode == 0, told.stderr
    assert cloud.rules["harbour-shop-staging"] == [*before, living, by_hand]


@pytest.mark.parametrize(
    ("environment", "change", "said"),
    [
        ("staging", {"HCLOUD_TOKEN": "wrong"}, "401 unable to authenticate"),
        ("production", {}, "no firewall called harbour-shop-production"),
        ("staging", {"MY_ADDRESS": "198.51.100.7; reboot"}, "that is no IPv4 address"),
        ("staging", {"HCLOUD_ENDPOINT": "http://127.0.0.1:9/v1"}, "cannot be reached"),
        ("elsewhere", {}, "staging or production, not elsewhere"),
    ],
)
def test_what_goes_wrong_at_hetzner_is_told_and_nothing_is_changed(
    project: Path, cloud: Hetzner, environment: str, change: dict[str, str], said: str
) -> None:
    before = list(cloud.history)
    env = {"HCLOUD_TOKEN": SECRET, "HCLOUD_ENDPOINT": cloud.address, **change}
    told = firewall(project, "open", environment, **env)
    assert told.returncode == 1
    assert said in told.stderr
    assert SECRET not in told.stdout + told.stderr
    assert cloud.history == before


def test_an_outage_of_the_provider_is_an_error_and_not_a_rule_that_was_set(project: Path, cloud: Hetzner) -> None:
    cloud.broken = "service unavailable"
    told = firewall(project, "open", "staging", HCLOUD_TOKEN=SECRET, HCLOUD_ENDPOINT=cloud.address)
    assert told.returncode == 1
    assert "503 service unavailable" in told.stderr


@pytest.fixture
def ovh() -> Iterator[OpenStack]:
    """A security group at OVHcloud."""
    with openstack("harbour-shop-staging", SECRET) as made:
        made.add(remote_ip_prefix="203.0.113.7/32", description="admins")
        yield made


def at_ovh(cloud: OpenStack) -> dict[str, str]:
    """What the job has in its environment."""
    return {
        "OS_AUTH_URL": f"{cloud.url}/v3",
        "OS_REGION_NAME": REGION,
        "OS_PROJECT_ID": "0123456789abcdef",
        "OS_USERNAME": "user-abc",
        "OS_PASSWORD": SECRET,
    }


def test_ovhs_security_group_is_opened_for_one_address_and_closed_again(
    rendered: Callable[[str], Path], ovh: OpenStack
) -> None:
    project = rendered("managed-database")
    dead = ovh.add(remote_ip_prefix="198.51.100.9/32", description=f"deploy 11-1 {int(time.time()) - 8000}")
    for _ in range(2):  # the second time as after a retry
        told = firewall(project, "open", "staging", **at_ovh(ovh))
        assert told.returncode == 0, told.stderr
        assert SECRET not in told.stdout + told.stderr
        assert {rule["remote_ip_prefix"] for rule in ovh.rules.values()} == {"203.0.113.7/32", f"{MINE}/32"}
    assert dead not in ovh.rules
    told = firewall(project, "close", "staging", **at_ovh(ovh))
    assert told.returncode == 0, told.stderr
    assert [rule["description"] for rule in ovh.rules.values()] == ["admins"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"OS_PASSWORD": "wrong"}, "does not accept the user"),
        ({"OS_REGION_NAME": "MARS1"}, "no network service in MARS1"),
    ],
)
def test_what_goes_wrong_at_ovh_is_told(
    rendered: Callable[[str], Path], ovh: OpenStack, change: dict[str, str], said: str
) -> None:
    told = firewall(rendered("managed-database"), "open", "staging", **{**at_ovh(ovh), **change})
    assert told.returncode == 1
    assert said in told.stderr
    assert len(ovh.rules) == 1
