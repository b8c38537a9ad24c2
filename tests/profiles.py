"""Answers that the tests render: named profiles, and a pairwise cover of everything that `copier.yml` lets one choose.

The cover is computed from `copier.yml` itself with the template's own conditions, so a new choice is covered without
a change here; only a new free-text question needs its values in `TEXT_VALUES`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from allpairspy import AllPairs
from jinja2 import StrictUndefined, Template, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

ROOT = Path(__file__).resolve().parents[1]
# As Copier loads them: by their path, each a module of its own.
sys.path.append(str(ROOT / "extensions"))

import quoting  # noqa: E402
import validators  # noqa: E402

Answers = dict[str, Any]

# What somebody types who presses Enter throughout except for name, repository, domain and admin network.
REQUIRED: Answers = {
    "project_name": "Harbour Shop",
    "github_repository": "harbour/shop",
    "production_domain": "shop.example.com",
    "admin_networks": "203.0.113.7/32",
}

PROFILES: dict[str, Answers] = {
    "default": REQUIRED,
    "minimal": {
        **REQUIRED,
        "worker": False,
        "frontends": "",
        "egress": [],
        "backup_method": "provider_snapshots",
    },
    "everything": {
        "project_name": "Harbour & Sons “Shop”",
        "project_slug": "harbour-sons",
        "compose_project": "harbour_legacy",
        "github_repository": "Harbour-Sons/The.Shop",
        "decisions_dir": "docs/decisions",
        "dotnet_solution": "Harbour.Shop",
        "dotnet_image": "alpine",
        "worker": True,
        "worker_health": "heartbeat",
        "frontends": "web admin back-office",
        "egress": ["api", "worker", "frontends"],
        "production_domain": "harbour-sons.example.org",
        "staging_domain": "staging.example.net",
        "www_redirect": True,
        "acme_email": "certificates@example.org",
        "hosting_provider": "ovh",
        "server_architecture": "arm64",
        "provisioning": "terraform_ansible",
        "admin_networks": "203.0.113.7/32 2001:db8:12::/48",
        "database": "container",
        "postgres_version": 17,
        "proxy": "nginx",
        "image_repository": "registry.example.org:5000/harbour/sons",
        "migrations": "ef_bundle",
        "approval": "environment_reviewers",
        "delivery": "server_pull",
        "backup_method": "pgbackrest",
        "backup_target": "s3",
        "backup_schedule": "*/30 1-5 * * 1-6",
        "backup_keep_daily": 14,
        "backup_keep_weekly": 8,
        "backup_keep_monthly": 24,
    },
    "api-only": {**REQUIRED, "worker": False, "frontends": "", "egress": ["api"]},
    "no-worker": {**REQUIRED, "worker": False},
    "nginx": {**REQUIRED, "proxy": "nginx"},
    "nginx-api-only": {**REQUIRED, "proxy": "nginx", "worker": False, "frontends": ""},
    "nginx-managed": {
        **REQUIRED,
        "proxy": "nginx",
        "hosting_provider": "ovh",
        "database": "managed",
        "frontends": "web admin shop",
    },
    "managed-database": {**REQUIRED, "hosting_provider": "ovh", "database": "managed"},
    "managed-bundle": {
        **REQUIRED,
        "hosting_provider": "other",
        "database": "managed",
        "migrations": "ef_bundle",
        "provisioning": "ansible",
    },
    "many-front-ends": {**REQUIRED, "frontends": "web admin shop partners back-office"},
    "alpine": {**REQUIRED, "dotnet_image": "alpine"},
    "chiseled": {**REQUIRED, "dotnet_image": "chiseled", "worker_health": "heartbeat"},
    "heartbeat": {**REQUIRED, "worker_health": "heartbeat"},
    "arm64": {**REQUIRED, "server_architecture": "arm64"},
    "decisions-dir": {**REQUIRED, "decisions_dir": "docs/decisions"},
    "ef-bundle": {**REQUIRED, "migrations": "ef_bundle"},
    "no-egress": {**REQUIRED, "egress": []},
    "old-postgres": {**REQUIRED, "postgres_version": 15},
    "kept-compose-name": {**REQUIRED, "compose_project": "infra"},
    "name-with-markup": {
        **REQUIRED,
        "project_name": 'O\'Brien "& Sons": $(id) ${HOME} {{ x }} ]] `ls` # <b> | 100%',
        "project_slug": "obrien",
    },
    "runner": {**REQUIRED, "delivery": "self_hosted_runner", "hosting_provider": "other"},
    "terraform": {**REQUIRED, "provisioning": "terraform"},
    "terraform-local": {
        **REQUIRED,
        "provisioning": "terraform_ansible",
        "terraform_state": "local",
        "server_architecture": "arm64",
        "delivery": "self_hosted_runner",
        "backup_method": "provider_snapshots",
    },
    "terraform-ovh": {
        **REQUIRED,
        "provisioning": "terraform",
        "hosting_provider": "ovh",
        "database": "managed",
        "admin_networks": "203.0.113.7/32 2001:db8:12::/48",
    },
    "no-www": {**REQUIRED, "www_redirect": False},
}

# Values that stand for a free-text question in the pairwise cover; a question that is missing here keeps its default.
TEXT_VALUES: dict[str, list[Any]] = {
    "project_name": ["Harbour Shop", 'Ørsted: "Größe" & ${X}'],
    "compose_project": ["harbour-shop", "legacy_1"],
    "frontends": ["web", "", "web admin shop"],
    "admin_networks": ["203.0.113.7/32", "198.51.100.0/24 2001:db8:12::/48"],
    "image_repository": ["ghcr.io/harbour/shop", "localhost:5000/shop"],
    "egress": [["api", "worker"], [], ["api"], ["api", "worker", "frontends"], ["frontends"]],
}


@cache
def questions() -> dict[str, dict[str, Any]]:
    """Return the questions of `copier.yml`, without its settings."""
    data = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    return {name: details for name, details in data.items() if not name.startswith("_")}


def choices(details: Mapping[str, Any]) -> list[Any]:
    """Return the values that a question with choices offers, in any of the notations of Copier."""
    offered = details["choices"]
    if isinstance(offered, dict):
        return [item["value"] if isinstance(item, dict) else item for item in offered.values()]
    return list(offered)


@cache
def _environment() -> SandboxedEnvironment:
    settings = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))["_envops"]
    environment = SandboxedEnvironment(**{**settings, "undefined": StrictUndefined})
    validators.Validators(environment)
    quoting.Quoting(environment)
    return environment


@cache
def _template(source: str) -> Template:
    return _environment().from_string(source)


def _render(template: object, answers: Answers) -> str | None:
    """Render a condition; `None` when it depends on an answer that is not there yet."""
    if "[" not in str(template):
        return str(template)
    try:
        return _template(str(template)).render(answers)
    except UndefinedError:
        return None


def is_asked(name: str, answers: Answers) -> bool:
    """Say whether `when` lets the question be asked after these answers."""
    return _render(questions()[name].get("when", "true"), answers) not in {"", "False", "false"}


def problem_with_choice(name: str, value: object, answers: Answers) -> str:
    """Return the sentence with which one of the question's choices refuses these answers."""
    offered = questions()[name].get("choices")
    if not isinstance(offered, dict):
        return ""
    for choice in offered.values():
        if isinstance(choice, dict) and (
            value == choice["value"] or (isinstance(value, list) and choice["value"] in value)
        ):
            problem = _render(choice.get("validator", ""), answers)
            if problem:
                return problem.strip()
    return ""


@cache
def _constrained() -> frozenset[str]:
    """Return the questions that conditions belong to or name."""
    conditions = {name: f"{details.get('when')} {details.get('choices')}" for name, details in questions().items()}
    conditional = {name for name, text in conditions.items() if "[[" in text or "[%" in text}
    named = {name for name in questions() for other in conditional if re.search(rf"\b{name}\b", conditions[other])}
    return frozenset(conditional | named)


@cache
def _values() -> dict[str, list[Any]]:
    """Return each question's values, those first that conditions are about: the search then fails early."""
    values: dict[str, list[Any]] = {}
    for name, details in questions().items():
        if name in TEXT_VALUES:
            values[name] = TEXT_VALUES[name]
        elif "choices" in details:
            values[name] = choices(details)
        elif details["type"] == "bool":
            values[name] = [True, False]
    return dict(sorted(values.items(), key=lambda item: item[0] not in _constrained()))


def fits(name: str, value: object, before: Answers) -> bool:
    """Say whether the template takes this answer after those before it."""
    if not is_asked(name, before):
        # A question that is not asked keeps its default: its first value stands for it.
        return bool(value == _values()[name][0])
    return not problem_with_choice(name, value, before)


def is_possible(answers: Answers) -> bool:
    """Say whether the template takes these answers; later questions may be missing."""
    given = list(answers.items())
    return all(fits(name, value, dict(given[:position])) for position, (name, value) in enumerate(given))


def _rows(values: dict[str, list[Any]]) -> Iterator[Answers]:
    names = list(values)
    constrained = len(_constrained())
    # The tool compares values, and lists cannot be compared as keys: it gets positions.
    positions = [list(range(len(options))) for options in values.values()]

    def answers(row: tuple[int, ...] | list[int]) -> Answers:
        return {name: values[name][position] for name, position in zip(names, row, strict=False)}

    @cache
    def possible(row: tuple[int, ...]) -> bool:
        return is_possible(answers(row))

    for row in AllPairs(positions, filter_func=lambda row: possible(tuple(row[:constrained]))):
        yield answers(row)


Pair = tuple[tuple[str, str], tuple[str, str]]


def pairs(answers: Answers) -> set[Pair]:
    """Return every pair of answered questions, as hashable text."""
    return set(combinations([(name, repr(value)) for name, value in answers.items()], 2))


def _completed(fixed: Answers) -> Answers | None:
    """Return possible answers that contain these, if there are any."""

    def search(row: Answers, names: list[str]) -> Answers | None:
        if not names:
            return row
        for value in [fixed[names[0]]] if names[0] in fixed else _values()[names[0]]:
            if names[0] not in _constrained() or fits(names[0], value, row):
                found = search({**row, names[0]: value}, names[1:])
                if found or names[0] not in _constrained():
                    return found
        return None

    return search({}, list(_values()))


@cache
def _cover() -> tuple[Answers, ...]:
    rows = list(_rows(_values()))
    covered: set[Pair] = set().union(*(pairs(row) for row in rows))
    # With conditions the tool stops early. What it left out is packed into further rows, as much as fits into each.
    missing = [
        {first: one, second: two}
        for first, second in combinations(_values(), 2)
        for one in _values()[first]
        for two in _values()[second]
        if ((first, repr(one)), (second, repr(two))) not in covered and _completed({first: one, second: two})
    ]
    while missing:
        fixed: Answers = {}
        for pair in missing:
            wanted = {**fixed, **pair}
            if all(pair.get(name, value) == value for name, value in fixed.items()) and _completed(wanted):
                fixed = wanted
        row = _completed(fixed)
        assert row, fixed
        rows.append(row)
        missing = [pair for pair in missing if not pair.items() <= row.items()]
    return tuple(rows)


def complete(row: Answers) -> Answers:
    """Return the answers as a person would give them: required ones added, questions that are not asked left out."""
    given: Answers = {}
    for name, value in row.items():
        if is_asked(name, given):
            given[name] = value
    return {**REQUIRED, **given}


def pairwise() -> list[Answers]:
    """Return sets of answers in which every possible pair of choices meets at least once. The same at every call."""
    return [complete(row) for row in _cover()]


def combinations_by_name() -> dict[str, Answers]:
    """Return every set of answers that the tests render: the profiles and the pairwise cover (`pair-01`, …)."""
    return PROFILES | {f"pair-{number:02d}": answers for number, answers in enumerate(pairwise(), 1)}
