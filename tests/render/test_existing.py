"""A repository that exists already: every byte that a copy changes in it is listed here."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests import answers, profiles, rendering, typing_person
from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What an owner wrote: files that the template also has, some of them at other places than it would put them.
OWNED = {
    "README.md": "# Our shop\n",
    ".dockerignore": "**/bin\n",
    ".env.example": "OUR_SETTING=\n",
    ".pre-commit-config.yaml": "repos: []\n",
    ".github/workflows/infra.yml": "name: ours\non: push\njobs: {}\n",
    ".github/workflows/release.yml": "name: release\non: push\njobs: {}\n",
    "Dockerfile.api": "FROM scratch\n",
    "Dockerfile.web": "FROM scratch\n",
    "apps/api/Shop.slnx": "<Solution />\n",
    "apps/web/package.json": '{"name": "web"}\n',
    "docker-compose.yml": "services: {}\n",
    "docs/runbooks/deploy-release.md": "# How we deploy\n",
    "infra/Caddyfile": "our.example.com\n",
    "infra/README.md": "Edited by hand.",
    "infra/custom/compose.yml": "services: {cache: {image: valkey}}\n",
    "infra/docker-compose.prod.yml": "services:\r\n  api: {}\r\n",
    "infra/old/notes.txt": "kept\n",
}
RECORDS = {
    "another title": {"docs/adr/0001-record-architecture-decisions.md": "# 1. Record decisions\n"},
    "a title of ours": {
        "docs/adr/0001-provisioning.md": "# 1. Our servers\n",
        "docs/adr/0004-caching.md": "# 4. Caching\n",
    },
}
NUMBERS = {
    "another title": {title: number for number, title in enumerate(answers.DECISIONS, start=2)},
    # The record that is there keeps its number, and the others follow the highest of the project's own.
    "a title of ours": {"provisioning": 1, "proxy": 6, "database": 7, "migrations": 8, "backups": 9, "delivery": 10},
}
IGNORED = (
    *(".env", "infra/.env", ".env.production", "infra/migrations/migrate.sql", "release.env"),
    *("infra/terraform/terraform.tfstate", "infra/terraform/.terraform/providers", "infra/terraform/apply.tfplan"),
)
GITIGNORES = {
    "none": None,
    "short": b"node_modules/\n",
    "without a line end": b"node_modules/\nbin/",
    "Windows": b"node_modules/\r\nbin/\r\n",
    "hides every .env": b".env*\n",
    "shows .env": b"*.env\n!.env\n",
    "shows .env after ignoring it": b".env\n.env.*\n!.env\n!.env.*\n",
    "hides the example at the end": b"!.env.example\n.env\n**/.env*\n",
    ".NET": b"[Dd]ebug/\n[Bb]in/\n[Oo]bj/\n",
    ".NET, file by file": b"**/[Bb]in/*\n*.user\n",
    "bin after our exception": b"!infra/bin/\nbin/\n",
    "Terraform's": b"**/.terraform/*\n*.tfstate\n*.tfvars\n*.tfvars.json\noverride.tf\n*_override.tf\n.terraform*\n",
    "no UTF-8": b"# caf\xe9\nnode_modules/\n",
}


def repository(path: Path, records: str = "another title", gitignore: bytes | None = b"node_modules/\n") -> Path:
    """Make a repository with one commit, and a secret that Git does not know."""
    for name, text in {**OWNED, **RECORDS[records]}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text.encode())
    if gitignore is not None:
        (path / ".gitignore").write_bytes(gitignore)
    run(["git", "init", "--quiet"], cwd=path)
    run(["git", "add", "--all"], cwd=path)
    run(["git", "commit", "--quiet", "--message", "Ours"], cwd=path)
    (path / ".env").write_text("JWT_SECRET=do-not-touch\n", encoding="utf-8")
    return path


def copy_without_asking(source: Path, destination: Path) -> str:
    """Copy as `make new DEST=… DEFAULTS=1` does."""
    told = run(
        [
            rendering.ROOT / ".ci/new",
            f"{sys.prefix}/bin/copier",
            *(f"--data={k}={v}" for k, v in profiles.REQUIRED.items()),
        ],
        env={"SRC": str(source), "DEST": str(destination), "DEFAULTS": "1"},
    )
    return told.stdout + told.stderr


def generated(records: str) -> set[str]:
    """Name what a copy of the default profile brings."""
    recorded = {
        "proxy": "caddy",
        "frontends": "web",
        "worker": True,
        "decisions_dir": "docs/adr",
        "delivery": "firewall_rule",
    }
    decisions = {f"docs/adr/{number:04d}-{title}.md" for title, number in NUMBERS[records].items()}
    others = {name for name in answers.expected_files(recorded) if not name.startswith("docs/adr/0")}
    return others | decisions


def expected_changes(records: str) -> list[str]:
    """List the changes: files that were not there, and lines at the end of .gitignore."""
    owned = OWNED.keys() | RECORDS[records].keys() | {".gitignore"}
    return [*(f"added: {name}" for name in sorted(generated(records) - owned)), "changed: .gitignore"]


@pytest.mark.parametrize("records", RECORDS)
def test_a_copy_without_questions_adds_files_and_lines_of_gitignore_and_changes_no_other_byte(
    source: Path, tmp_path: Path, records: str
) -> None:
    project = repository(tmp_path / "shop", records)
    before = rendering.contents(project)
    told = copy_without_asking(source, project)
    after = rendering.contents(project)
    assert rendering.changes(before, after) == expected_changes(records)
    mode, text = before[".gitignore"]
    assert after[".gitignore"][0] == mode
    assert after[".gitignore"][1].startswith(text)
    assert "infra/docker-compose.prod.yml" in told, "the user is told what was kept"
    assert run(["git", "status", "--porcelain", "--", ".env"], cwd=project).stdout == ""


def test_a_copy_with_questions_asks_before_each_overwrite_and_keeps_what_is_declined(
    source: Path, tmp_path: Path
) -> None:
    project = repository(tmp_path / "shop")
    before = rendering.contents(project)
    person = typing_person.copy(source, project, profiles.REQUIRED)
    assert rendering.changes(before, rendering.contents(project)) == expected_changes("another title")
    kept_without_a_question = {
        ".dockerignore",
        ".gitignore",
        ".pre-commit-config.yaml",
        "Dockerfile.api",
        "Dockerfile.web",
        "infra/custom/compose.yml",
    }
    assert sorted(person.declined) == sorted(OWNED.keys() & generated("another title") - kept_without_a_question)


def test_a_newcomer_types_four_answers_and_presses_enter_for_the_rest(
    source: Path, tmp_path: Path, rendered: Callable[[str], Path]
) -> None:
    person = typing_person.copy(source, tmp_path / "my-app", profiles.REQUIRED)
    assert person.declined == []
    assert person.asked == [
        name for name in profiles.questions() if name not in {"topology", "database", "terraform_state"}
    ], "a question without a choice was asked, or one was left out"
    expected = rendering.contents(rendered("default"))
    assert rendering.changes(expected, rendering.contents(tmp_path / "my-app")) == []


@pytest.mark.parametrize("name", GITIGNORES)
def test_secrets_are_ignored_and_what_is_generated_is_not_whatever_gitignore_said_before(
    source: Path, tmp_path: Path, name: str
) -> None:
    before = GITIGNORES[name]
    project = repository(tmp_path / "shop", gitignore=before)
    rendering.render(source, project, profiles.REQUIRED, overwrite=False, skip_if_exists=["**"])
    for path in IGNORED:
        assert run(["git", "check-ignore", path], cwd=project, check=False).returncode == 0, f"{path} is not ignored"
    terraform = ("terraform.tfvars", "custom.auto.tfvars", "custom_override.tf", ".terraform.lock.hcl")
    ours = [".env.example", *(f"infra/terraform/{file}" for file in terraform)]
    for path in (*ours, *generated("another title") - {".gitignore"}):
        assert run(["git", "check-ignore", path], cwd=project, check=False).returncode == 1, f"{path} is ignored"
    after = (project / ".gitignore").read_bytes()
    assert after.startswith(before or b"")
    assert (b"\r\n" in after) == (b"\r\n" in (before or b""))
    assert after.count(b"\n") - after.count(b"\r\n") in (0, after.count(b"\n")), "line ends are mixed"
    rendering.render(source, project, profiles.REQUIRED, overwrite=False, skip_if_exists=["**"])
    assert (project / ".gitignore").read_bytes() == after, "the second copy added lines again"


def test_a_project_that_runs_already_keeps_its_compose_name(source: Path, tmp_path: Path) -> None:
    project = rendering.render(source, tmp_path / "shop", {**profiles.REQUIRED, "compose_project": "infra"})
    text = (project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8")
    assert '\nname: "infra"\n' in text


def test_decisions_without_numbers_keep_the_records_that_are_there(source: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    (project / "docs/decisions").mkdir(parents=True)
    (project / "docs/decisions/proxy.md").write_text("# Our proxy\n", encoding="utf-8")
    rendering.render(source, project, {**profiles.REQUIRED, "decisions_dir": "docs/decisions"}, overwrite=False)
    assert (project / "docs/decisions/proxy.md").read_text(encoding="utf-8") == "# Our proxy\n"
    assert (project / "docs/decisions/database.md").is_file()


def test_the_source_is_not_changed_by_a_copy(source: Path, tmp_path: Path) -> None:
    template = shutil.copytree(source, tmp_path / "template")
    before = rendering.contents(template)
    rendering.render(template, tmp_path / "project", profiles.REQUIRED)
    added = [
        change for change in rendering.changes(before, rendering.contents(template)) if "__pycache__" not in change
    ]
    assert added == []
