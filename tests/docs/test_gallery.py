"""The gallery shows every profile as it is: its services and host names, its files, and where it differs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from docs import gallery
from tests import profiles, rendering
from tests.docs import reading
from tests.docs.test_diagrams import errors, mermaid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["mermaid"]

everywhere = pytest.mark.parametrize("profile", profiles.combinations_by_name())


def test_it_says_of_every_profile_who_it_is_for() -> None:
    told = [name for entries in gallery.SECTIONS.values() for name in entries]
    assert sorted(told) == sorted(profiles.PROFILES)
    assert all(text.strip().startswith("For ") for entries in gallery.SECTIONS.values() for text in entries.values())


def test_mermaid_reads_every_picture(mermaid: Path) -> None:
    pictures = [block.code for block in reading.blocks(gallery.TARGET) if block.language == "mermaid"]
    assert len(pictures) == len(profiles.PROFILES)
    assert [error for error in errors(mermaid, pictures) if error] == []


@everywhere
def test_a_picture_leads_from_each_host_name_to_its_service(rendered: Callable[[str], Path], profile: str) -> None:
    facts = (rendered(profile) / "infra" / "deploy.conf").read_text(encoding="utf-8")
    [hosts] = re.findall(r"^PRODUCTION_HOSTS=(.*)$", facts, re.MULTILINE)
    [proxy] = re.findall(r"^PROXY=(.*)$", facts, re.MULTILINE)
    picture = gallery.diagram(gallery.system(rendered(profile)))
    nodes = {label: node for node, label in re.findall(r'^    (n\d+)\W+"(.+?)"\W+$', picture, re.MULTILINE)}
    for name, host in (pair.split("=") for pair in hosts.split()):
        assert f'{nodes[proxy]} -->|"{host}"| {nodes[f"{name}-blue<br/>{name}-green"]}' in picture
        if name != "api":
            assert f'{nodes[f"{name}-blue<br/>{name}-green"]} -->|"http://api:8080"| {nodes[proxy]}' in picture
    assert f'users -->|"80/tcp<br/>443/tcp+udp"| {nodes[proxy]}' in picture


def test_both_proxies_give_the_same_picture(rendered: Callable[[str], Path]) -> None:
    caddy, nginx = (gallery.diagram(gallery.system(rendered(name))) for name in ("default", "nginx"))
    assert caddy.replace("caddy", "nginx") == nginx


@pytest.mark.parametrize(
    ("profile", "shown", "not_shown"),
    [
        ("no-egress", [], ["egress", "Mail"]),
        ("managed-database", ['|"egress"| managed', "Managed PostgreSQL"], ['("postgres")', '|"data"|']),
        ("everything", ['|"archive"| backups', '[("postgres")]'], ["Managed"]),
        ("api-only", ['|"egress"| world', '|"data"|'], ["worker", "web", "http://api"]),
    ],
)
def test_a_picture_shows_where_the_data_is_and_who_has_a_way_out(
    rendered: Callable[[str], Path], profile: str, shown: list[str], not_shown: list[str]
) -> None:
    picture = gallery.diagram(gallery.system(rendered(profile)))
    assert [text for text in shown if text not in picture] == []
    assert [text for text in not_shown if text in picture] == []


def test_a_tree_marks_what_is_not_usual() -> None:
    drawn = gallery.tree(["a.md", "infra/bin/new", "infra/old", "ours/x"], {"a.md", "infra/old", "gone"})
    assert drawn.splitlines() == [
        "  ├── a.md",
        "  ├── infra/",
        "+ │   ├── bin/",
        "+ │   │   └── new",
        "  │   └── old",
        "+ └── ours/",
        "+     └── x",
    ]


def test_the_trees_and_lists_account_for_every_file(rendered: Callable[[str], Path]) -> None:
    text = gallery.TARGET.read_text(encoding="utf-8")
    usual = set(rendering.files(rendered("default")))
    for profile in profiles.PROFILES:
        [part] = re.findall(rf"^### {profile}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        own = set(rendering.files(rendered(profile)))
        [tree] = re.findall(r"```text\n(.*?)```", part, re.DOTALL)
        assert len([line for line in tree.splitlines() if not line.endswith("/")]) == len(own)
        assert f"<summary>{len(own)} files, about " in part
        [absent] = re.findall(r"^Not here, but in `default`: (.*)\.$", part, re.MULTILINE) or [""]
        assert set(re.findall(r"`([^`]+)`", absent)) == usual - own
