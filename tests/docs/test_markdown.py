"""What every generated Markdown file must be: complete, linked, literal, and silent about what does not exist."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests import answers, profiles
from tests.docs import reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTIONS = ["Context", "Decision", "Consequences"]

# Nothing of this is in every project: a text that names it where it is not sends people to files that are not there.
NOT_THERE = [
    r"infra/(proxy|backup)/",
    r"\b(promote|release|rollback|update)\.yml\b",
    r"known_hosts in the repository",
    r"dead-man",
    r"\bslipway\b(?!\.(?:conf|rules|sh)\b)",  # it is in the names of files below /etc
    r"(?i)\bcoming soon\b|\bTODO\b|\bTBD\b|\blorem\b",
]

# Files that only some answers bring: the question, and those answers.
SOMETIMES = {
    r"infra/terraform\b": ("provisioning", {"terraform", "terraform_ansible"}),
    r"infra/ansible\b": ("provisioning", {"ansible", "terraform_ansible"}),
    r"infra/bin/(backup|restore|restore-drill)\b": ("backup_method", {"pg_dump_restic", "pgbackrest"}),
    r"infra/bin/prune-backups\b": ("backup_method", {"pg_dump_restic"}),
}

everywhere = pytest.mark.parametrize("profile", profiles.combinations_by_name())
somewhere = pytest.mark.parametrize("profile", reading.PROFILES)


@somewhere
def test_a_project_gets_exactly_these_documents(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    decisions = project / str(profiles.PROFILES[profile].get("decisions_dir", "docs/adr"))
    titles = {re.sub(r"^\d{4}-", "", path.stem) for path in decisions.glob("*.md")}
    recorded = answers.recorded(project)
    assert {path.stem for path in reading.runbooks(project)} == {
        *answers.RUNBOOKS,
        *answers.BACKUP_RUNBOOKS[recorded["backup_method"]],
        *([] if recorded.get("database") == "managed" else ["upgrade-postgres"]),
    }
    assert titles == {*answers.DECISIONS, "template"}
    others = {path.relative_to(project).as_posix() for path in reading.documents(project)}
    others -= {path.relative_to(project).as_posix() for path in [*reading.runbooks(project), *decisions.glob("*.md")]}
    expected = {"infra/README.md", "infra/custom/README.md", "infra/server/README.md"}
    expected |= {f"infra/{file}" for file in answers.BACKUP_FILES[recorded["backup_method"]] if file.endswith(".md")}
    if "ansible" in recorded["provisioning"]:
        expected.add("infra/ansible/README.md")
    assert others == expected | {file for file in answers.terraform_files(recorded) if file.endswith(".md")}


@everywhere
def test_every_link_and_anchor_leads_somewhere(rendered: Callable[[str], Path], profile: str) -> None:
    broken = []
    for document in reading.documents(rendered(profile)):
        for text, target in reading.links(document):
            address = urlsplit(target)
            if address.scheme in {"https", "mailto"}:
                continue
            path = (document.parent / unquote(address.path)).resolve() if address.path else document
            if not path.exists() or (address.fragment and unquote(address.fragment) not in reading.anchors(path)):
                broken.append(f"{document.name}: [{text}]({target})")
    assert broken == []


@everywhere
def test_every_document_has_one_title_and_no_heading_skips_a_level(
    rendered: Callable[[str], Path], profile: str
) -> None:
    for document in reading.documents(rendered(profile)):
        levels = [level for level, _ in reading.headings(document)]
        assert levels[0] == 1, document
        assert levels.count(1) == 1, document
        assert all(after <= before + 1 for before, after in pairwise(levels)), document


@everywhere
def test_the_text_is_tidy(rendered: Callable[[str], Path], profile: str) -> None:
    for document in reading.documents(rendered(profile)):
        text = document.read_text(encoding="utf-8")
        assert text.endswith("\n"), document
        assert not text.endswith("\n\n"), document
        assert "\n\n\n" not in text, document
        assert "\t" not in text, document
        assert not re.search(r"[ \t]$", text, re.MULTILINE), document
        # A heading stands alone.
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert not re.search(r"^(?!#|\n).+\n#{1,6} ", prose, re.MULTILINE), document
        languages = {block.language for block in reading.blocks(document)}
        assert languages <= {"bash", "caddyfile", "mermaid", "nginx", "sql", "yaml"}, document


@everywhere
def test_tables_have_as_many_cells_in_each_row(rendered: Callable[[str], Path], profile: str) -> None:
    for document in reading.documents(rendered(profile)):
        prose = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for table in re.findall(r"(?:^\|.*\|\n)+", prose, re.MULTILINE):
            rows = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
            assert len(set(rows)) == 1, (document, table)
            assert len(rows) > 2, (document, table)


@everywhere
def test_nothing_is_mentioned_that_does_not_exist(rendered: Callable[[str], Path], profile: str) -> None:
    given = answers.recorded(rendered(profile))
    absent = [
        *NOT_THERE,
        *(pattern for pattern, (question, with_it) in SOMETIMES.items() if given[question] not in with_it),
    ]
    for document in reading.documents(rendered(profile)):
        text = document.read_text(encoding="utf-8")
        found = [pattern for pattern in absent if re.search(pattern, text)]
        assert found == [], document


@pytest.mark.parametrize("profile", ["default", "everything", "name-with-markup"])
def test_a_name_full_of_markup_is_read_as_the_same_text(rendered: Callable[[str], Path], profile: str) -> None:
    readme = rendered(profile) / "infra" / "README.md"
    seen = [reading.text_of(token) for token in reading.tokens(readme) if token.type == "inline"]
    name = profiles.PROFILES[profile]["project_name"]
    assert any(f"The production side of {name}." in text for text in seen)
    kinds = {child.type for token in reading.tokens(readme) for child in token.children or []}
    assert "html_inline" not in kinds


@everywhere
def test_decisions_have_status_date_and_the_three_sections(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    records = [path for path in reading.documents(project) if path.parent.name in {"adr", "decisions"}]
    for record in records:
        assert [text for level, text in reading.headings(record) if level == 2] == SECTIONS, record
        text = record.read_text(encoding="utf-8")
        assert re.search(r"^- Status: (accepted$|proposed, )", text, re.MULTILINE), record
        assert re.search(r"^- Date: ", text, re.MULTILINE), record
        for consequence in ("Positive", "Negative", "Risks"):
            assert f"\n- {consequence}: " in text, record


@everywhere
def test_decisions_say_what_was_answered(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    answers = {"database": "container", **yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))}
    records = {
        re.sub(r"^\d{4}-", "", path.stem): " ".join(path.read_text(encoding="utf-8").split())
        for path in reading.documents(project)
        if path.parent.name in {"adr", "decisions"}
    }
    expected = {
        "provisioning": {
            "manual": "by hand",
            "terraform": "owns servers",
            "ansible": "Ansible owns everything",
            "terraform_ansible": "Nothing is owned twice",
        }[answers["provisioning"]],
        "proxy": {"caddy": "# Caddy as", "nginx": "# nginx as"}[answers["proxy"]],
        "database": f"# PostgreSQL {answers['postgres_version']} "
        + {"container": "in a container", "managed": "as a managed service"}[answers["database"]],
        "migrations": {
            "sql_script": "an idempotent SQL script",
            "ef_bundle": "an EF migration bundle",
        }[answers["migrations"]],
        "backups": {
            "pg_dump_restic": "# Backups with pg_dump and restic",
            "pgbackrest": "# Backups with pgBackRest",
            "provider_snapshots": "# Backups with the provider's snapshots",
        }[answers["backup_method"]],
        "delivery": {
            "firewall_rule": "opens the",
            "self_hosted_runner": "self-hosted runner inside",
            "server_pull": "the server fetches it",
        }[answers["delivery"]],
    }
    for title, words in expected.items():
        assert words in records[title], (title, words)
    assert f"`{answers['backup_schedule']}`" in records["backups"]
    kept = f"{answers['backup_keep_daily']} daily, {answers['backup_keep_weekly']} weekly"
    assert kept in records["backups"]


@everywhere
def test_the_map_names_every_file_of_infra_and_no_other(rendered: Callable[[str], Path], profile: str) -> None:
    infra = rendered(profile) / "infra"
    readme = (infra / "README.md").read_text(encoding="utf-8")
    text = readme.partition("## What is what")[2].partition("## On the server")[0]
    named = set(re.findall(r"^\| (?:\[)?`([^`]+)`", text, re.MULTILINE))
    assert [path for path in sorted(named) if not (infra / path).exists()] == []
    there = [path.relative_to(infra).as_posix() for path in infra.rglob("*") if path.is_file()]
    folders = tuple(name for name in named if name.endswith("/"))
    unnamed = [path for path in there if path not in named and not path.startswith(folders) and path != "README.md"]
    assert unnamed == []


@somewhere
def test_the_note_about_custom_names_every_file_that_is_there(rendered: Callable[[str], Path], profile: str) -> None:
    custom = rendered(profile) / "infra" / "custom"
    text = (custom / "README.md").read_text(encoding="utf-8")
    for path in custom.rglob("*"):
        relative = path.relative_to(custom).as_posix()
        if path.is_file() and relative != "README.md":
            pattern = re.sub(r"^(caddy|nginx)/(?!other_sites)[^.]+", r"\1/<site>", relative)
            pattern = re.sub(r"^services/[^.]+", "services/<service>", pattern)
            assert f"`{pattern}`" in text, relative
