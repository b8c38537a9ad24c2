"""A bare server that the runbook made ready, package by package, before auditors that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import audit
from tests.lab.registry import Registry
from tests.lab.vps import Vps

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def measured(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vps, audit.Report, dict[str, object]]]:
    """A Debian 13 host of the runbook's, what the auditors say of it, and its facts."""
    with audit.ready_made(tmp_path_factory.mktemp("audit"), "trixie", registry) as (net, server):
        facts = audit.facts_of(server.host, server.folder)
        yield server, audit.audit(net, server.host), facts


def test_the_auditors_find_what_the_page_says(measured: tuple[Vps, audit.Report, dict[str, object]]) -> None:
    report = measured[1]
    assert [f"{row.what}: {row.seen} instead of {row.wanted}" for row in report.bad] == []
    assert report.ssh_failures == []
    assert report.ssh_warnings == []
    assert report.lynis_index >= audit.LYNIS_FLOOR
    page = audit.PAGE.read_text(encoding="utf-8")
    rules = {line.partition(":")[0] for line in report.lynis_says}
    assert sorted(rule for rule in rules if f"`{rule}`" not in page) == [], "what lynis says has no reason on the page"


def test_an_audit_leaves_a_server_as_it_was(measured: tuple[Vps, audit.Report, dict[str, object]]) -> None:
    server, _, facts = measured
    assert audit.differences(facts, audit.facts_of(server.host, server.folder)) == []


def test_security_updates_come_by_themselves(measured: tuple[Vps, audit.Report, dict[str, object]]) -> None:
    """As the nightly timer runs them: the lists are fetched, and what Debian's security team publishes is allowed."""
    host = measured[0].host
    told = host.console("apt-config", "dump", "APT::Periodic")
    assert 'APT::Periodic::Update-Package-Lists "1"' in told
    assert 'APT::Periodic::Unattended-Upgrade "1"' in told
    run = host.console("sh", "-c", "apt-get update -q && unattended-upgrade --dry-run --debug", timeout=600)
    assert f"origin=Debian,codename={host.suite}-security,label=Debian-Security" in run
    assert host.console("systemctl", "is-active", "unattended-upgrades").strip() == "active"
