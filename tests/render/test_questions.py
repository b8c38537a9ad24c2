"""The questions themselves: none is misspelt, each helps, and each refuses what cannot be rendered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import profiles, rendering
from tests.tooling import run

QUESTIONS = profiles.questions()
FREE_TEXT = {name for name, details in QUESTIONS.items() if "choices" not in details and details["type"] != "bool"}

# Copier ignores what it does not know, so a misspelt key would silently do nothing.
SETTINGS = {
    "_answers_file",
    "_envops",
    "_exclude",
    "_jinja_extensions",
    "_message_after_copy",
    "_message_after_update",
    "_message_before_copy",
    "_message_before_update",
    "_migrations",
    "_min_copier_version",
    "_secret_questions",
    "_skip_if_exists",
    "_subdirectory",
    "_tasks",
    "_templates_suffix",
}
QUESTION_KEYS = {
    "ask",
    "choices",
    "default",
    "help",
    "multiline",
    "multiselect",
    "placeholder",
    "type",
    "validator",
    "when",
}
CHOICE_KEYS = {"value", "validator"}
TASK_KEYS = {"command", "when", "working_directory"}
MIGRATION_KEYS = {"command", "version", "when", "working_directory"}


def settings() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((rendering.ROOT / "copier.yml").read_text(encoding="utf-8"))
    return {name: value for name, value in data.items() if name.startswith("_")}


def test_every_setting_is_one_that_copier_knows() -> None:
    assert settings().keys() - SETTINGS == set()
    for kind, keys in (("_tasks", TASK_KEYS), ("_migrations", MIGRATION_KEYS)):
        for item in settings().get(kind, []):
            assert item.keys() - keys == set()


def test_patterns_of_files_depend_on_no_answer() -> None:
    """Copier reads them during an update before it has read the answers, and would stop."""
    for pattern in [*settings()["_skip_if_exists"], *settings()["_exclude"]]:
        rest = pattern.replace("[% if _copier_operation == 'update' %]", "").replace("[% endif %]", "")
        assert "[[" not in rest, pattern
        assert "[%" not in rest, pattern


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_key_of_a_question_is_one_that_copier_knows(name: str) -> None:
    details = QUESTIONS[name]
    assert details.keys() - QUESTION_KEYS == set()
    for choice in profiles_choices(details):
        assert choice.keys() - CHOICE_KEYS == set()


def profiles_choices(details: dict[str, Any]) -> list[dict[str, Any]]:
    offered = details.get("choices", {})
    return [choice for choice in offered.values() if isinstance(choice, dict)] if isinstance(offered, dict) else []


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_a_help_text_and_free_text_an_example(name: str) -> None:
    help_text = QUESTIONS[name].get("help", "")
    assert len(help_text) > 20
    if name in FREE_TEXT and QUESTIONS[name]["type"] == "str":
        assert re.search(r"[Ee]xample: \S", help_text), help_text


def test_every_free_text_question_has_a_validator() -> None:
    assert {name for name in FREE_TEXT if not QUESTIONS[name].get("validator")} == set()


def test_only_name_repository_domain_and_admin_networks_have_no_default() -> None:
    assert {name for name, details in QUESTIONS.items() if "default" not in details} == set(profiles.REQUIRED)


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_is_used(name: str) -> None:
    if name == "topology":
        return  # It has one value so far.
    used = re.compile(rf"\b{name}\b")
    places = [*(rendering.ROOT / "template").rglob("*"), *(rendering.ROOT / "extensions").glob("*.py")]
    assert any(
        used.search(path.name) or (path.is_file() and used.search(path.read_text(encoding="utf-8"))) for path in places
    ), f"nothing that is generated depends on {name}"


REFUSED: list[tuple[str, object, str]] = [
    ("project_name", "", "Give the project a name"),
    ("project_name", "  ", "Give the project a name"),
    ("project_name", "x" * 61, "has 61 characters; use at most 60"),
    ("project_name", "two\nlines", "may not contain line breaks"),
    ("project_name", "tab\tbed", "may not contain line breaks"),
    ("project_name", "bell\a", "control characters"),
    ("project_name", " Shop", "Remove the space"),
    ("project_name", "!!!", "at least one letter or digit"),
    ("project_slug", "Harbour", "lower-case letters"),
    ("project_slug", "1shop", "starting with a letter"),
    ("project_slug", "a", "2 to 40"),
    ("project_slug", "a" * 41, "2 to 40"),
    ("project_slug", "shop-", "not ending with a hyphen"),
    ("project_slug", "my--shop", "single hyphens"),
    ("project_slug", "shop\n", "lower-case letters"),
    ("compose_project", "Legacy", "lower-case letters"),
    ("compose_project", "-legacy", "starting with a letter or digit"),
    ("compose_project", "", "docker compose ls"),
    ("github_repository", "shop", "OWNER/NAME"),
    ("github_repository", "https://github.com/harbour/shop", "without https://"),
    ("github_repository", "harbour/shop/x", "OWNER/NAME"),
    ("github_repository", "har bour/shop", "OWNER/NAME"),
    ("github_repository", "harbour/..", "OWNER/NAME"),
    ("dotnet_solution", "Harbour Shop", "letters, digits and dots"),
    ("dotnet_solution", "1Shop", "each part starting with a letter"),
    ("dotnet_solution", "Shop..Api", "each part starting with a letter"),
    ("backup_volumes", "../etc", "letters, digits, dots"),
    ("backup_volumes", "up loads;id", "letters, digits, dots"),
    ("backup_volumes", "postgres_data", "backed up as a dump already"),
    ("backup_volumes", "uploads uploads", "Name each volume once"),
    ("frontends", "Web", "lower-case letters"),
    ("frontends", "api", "name of another service"),
    ("frontends", "web postgres", "name of another service"),
    ("frontends", "web www", "name of another service"),
    ("frontends", "web web", "name of its own"),
    ("frontends", "w", "2 to 20"),
    ("frontends", "web;id", "lower-case letters"),
    ("frontends", " ".join(f"front-{letter}" for letter in "abcdefghijklm"), "more than the 12"),
    ("production_domain", "example", "Give a domain"),
    ("production_domain", "https://example.com", "without https://"),
    ("production_domain", "example.com:443", "port or path"),
    ("production_domain", "Example.com", "lower case"),
    ("production_domain", "-a.example.com", "Give a domain"),
    ("production_domain", "bücher.example", "write xn--bcher-kva.example instead"),
    ("production_domain", "203.0.113.7", "not for addresses"),
    ("production_domain", "a" * 64 + ".example", "Give a domain"),
    ("production_domain", ".".join(["abcdefgh"] * 30), "too long"),
    ("staging_domain", "shop.example.com", "Staging needs a domain of its own"),
    ("staging_domain", "staging", "Give a domain"),
    ("acme_email", "ops", "Give an e-mail address"),
    ("acme_email", "ops@localhost", "not a domain"),
    ("acme_email", "Ops <ops@example.com>", "Give an e-mail address"),
    ("acme_email", "o..ps@example.com", "Give an e-mail address"),
    ("acme_email", 'o"ps@example.com', "Give an e-mail address"),
    ("admin_networks", "", "Name at least one network"),
    ("admin_networks", "0.0.0.0/0", "large part of the internet"),
    ("admin_networks", "::/0", "large part of the internet"),
    ("admin_networks", "203.0.113.7", "Write the prefix too: 203.0.113.7/32"),
    ("admin_networks", "203.0.113.7/24", "write 203.0.113.0/24 for the network or 203.0.113.7/32"),
    ("admin_networks", "office", "is not a network"),
    ("admin_networks", "203.0.113.7/33", "is not a network"),
    ("admin_networks", "203.0.113.7/32 203.0.113.7/32", "named twice"),
    ("admin_networks", " ".join(f"203.0.113.{n}/32" for n in range(21)), "At most 20"),
    ("image_repository", "ghcr.io", "REGISTRY/PATH"),
    ("image_repository", "ghcr.io/Harbour/shop", "lower case"),
    ("image_repository", "ghcr.io/harbour/shop:latest", "without a tag"),
    ("image_repository", "harbour/shop", "REGISTRY/PATH"),
    ("image_repository", "localhost:0/shop", "REGISTRY/PATH"),
    ("backup_schedule", "@daily", "five cron fields"),
    ("backup_schedule", "61 2 * * *", "goes from 0 to 59"),
    ("backup_schedule", "0 24 * * *", "goes from 0 to 23"),
    ("backup_schedule", "0 0 30 2 *", "no year has that date"),
    ("backup_schedule", "5/10 * * * *", "a step without a range"),
    ("backup_schedule", "*/0 * * * *", "step"),
    ("backup_schedule", "0 0 * * mon", "is not a day of week"),
    ("backup_keep_daily", 0, "from 1 to 366"),
    ("backup_keep_weekly", -1, "from 0 to 520"),
    ("backup_keep_monthly", 121, "from 0 to 120"),
    ("decisions_dir", "docs/decision", "is not in"),
    ("postgres_version", 14, "is not in"),
]

REFUSED_TOGETHER: list[tuple[dict[str, object], str]] = [
    ({"worker": False, "egress": ["worker"]}, "There is no worker"),
    ({"frontends": "", "egress": ["frontends"]}, "There is no front end"),
    ({"hosting_provider": "hetzner", "database": "managed"}, "Hetzner"),
    ({"hosting_provider": "other", "provisioning": "terraform"}, "Terraform is offered for"),
    ({"hosting_provider": "other", "provisioning": "terraform_ansible"}, "Terraform is offered for"),
    ({"hosting_provider": "other", "delivery": "firewall_rule"}, "firewall API"),
    ({"hosting_provider": "ovh", "database": "managed", "backup_method": "pgbackrest"}, "choose pg_dump"),
]


def test_every_free_text_question_is_among_those_whose_refusals_are_tried() -> None:
    assert {name for name, _, _ in REFUSED} & FREE_TEXT == FREE_TEXT


@pytest.mark.parametrize(("question", "value", "sentence"), REFUSED)
def test_an_answer_that_cannot_be_right_is_refused_with_a_sentence(
    source: Path, tmp_path: Path, question: str, value: object, sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        rendering.render(source, tmp_path / "project", {**profiles.REQUIRED, question: value})
    assert f"'{question}'" in str(refusal.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("given", "sentence"), REFUSED_TOGETHER)
def test_answers_that_contradict_each_other_are_refused_with_a_sentence(
    source: Path, tmp_path: Path, given: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        rendering.render(source, tmp_path / "project", {**profiles.REQUIRED, **given})


@pytest.mark.parametrize("folder", ["apps", "apps/deep/inside"])
def test_a_sub_folder_of_a_repository_is_refused_with_the_sentence_that_names_the_root(
    source: Path, tmp_path: Path, folder: str
) -> None:
    run(["git", "init", "--quiet", str(tmp_path / "repository")])
    (tmp_path / "repository" / folder).mkdir(parents=True)
    destination = tmp_path / "repository" / folder / "project"
    with pytest.raises(ValueError, match=re.escape(f"Copy to the root instead: {tmp_path / 'repository'}")):
        rendering.render(source, destination, profiles.REQUIRED)
    assert not destination.exists()


def test_a_folder_beside_a_repository_is_taken_when_it_is_named_from_inside(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    run(["git", "init", "--quiet", str(repository)])
    monkeypatch.chdir(repository)
    rendering.render(source, Path("../project"), profiles.REQUIRED)
    assert (tmp_path / "project/infra/docker-compose.prod.yml").is_file()


@pytest.mark.parametrize("link", ["file", "folder"])
def test_the_root_of_a_repository_and_of_a_worktree_are_taken(source: Path, tmp_path: Path, link: str) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    if link == "folder":
        run(["git", "init", "--quiet"], cwd=repository)
    else:
        (repository / ".git").write_text("gitdir: /elsewhere/.git/worktrees/repository\n", encoding="utf-8")
    rendering.render(source, repository, profiles.REQUIRED)
    assert (repository / "infra/docker-compose.prod.yml").is_file()
