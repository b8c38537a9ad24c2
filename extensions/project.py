"""Facts that follow from the answers: computed at every render, never stored, so that a release may change them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copier_template_extensions import ContextHook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

# The decisions that a project starts with, in the order in which they get numbers.
DECISIONS = ("provisioning", "proxy", "database", "migrations", "backups", "delivery")

# The answers that `facts` reads.
USED_ANSWERS = (
    "admin_networks",
    "backup_method",
    "database",
    "decisions_dir",
    "frontends",
    "hosting_provider",
    "image_repository",
    "migrations",
    "postgres_version",
    "production_domain",
    "project_slug",
    "provisioning",
    "proxy",
    "staging_domain",
    "worker",
)


def frontend(name: str, *, primary: bool, production_domain: str, staging_domain: str) -> dict[str, Any]:
    """Describe one front end: its names in Compose, in the environment and in DNS."""
    prefix = "" if primary else f"{name}."
    return {
        "name": name,
        "env": name.upper().replace("-", "_"),
        "primary": primary,
        "production_host": prefix + production_domain,
        "staging_host": prefix + staging_domain,
    }


def decision_file(title: str, directory: str, destination: Path) -> str:
    """Return the file name, without suffix, of a decision record.

    `docs/adr` numbers its records. A number that the project uses already is never taken, and a record that is there
    under any number keeps it.
    """
    if directory != "docs/adr":
        return title
    taken = {
        match["title"]: int(match["number"])
        for path in (destination / directory).glob("*.md")
        if (match := re.match(r"(?P<number>\d{4})-(?P<title>.+)\.md\Z", path.name))
    }
    if title in taken:
        return f"{taken[title]:04d}-{title}"
    highest = max((number for other, number in taken.items() if other not in DECISIONS), default=0)
    return f"{highest + 1 + DECISIONS.index(title):04d}-{title}"


def facts(context: Mapping[str, Any], destination: Path | None) -> dict[str, Any]:
    """Compute everything that follows from the answers given so far; each of them may still be missing."""
    names = [part for part in re.split(r"[\s,]+", str(context.get("frontends") or "")) if part]
    production_domain = str(context.get("production_domain", ""))
    staging_domain = str(context.get("staging_domain", ""))
    worker = bool(context.get("worker"))
    bundle = context.get("migrations") == "ef_bundle"
    proxy = str(context.get("proxy", "caddy"))
    directory = str(context.get("decisions_dir", ""))
    postgres = f"postgres-{context.get('postgres_version', '')}"
    # pgBackRest runs beside the database, in an image that this repository derives from the official one.
    derived = context.get("backup_method") == "pgbackrest" and context.get("database") != "managed"
    provisioned = context.get("provisioning") in ("terraform", "terraform_ansible")
    return {
        "fronts": [
            frontend(name, primary=index == 0, production_domain=production_domain, staging_domain=staging_domain)
            for index, name in enumerate(names)
        ],
        # Whose servers Terraform makes; empty when it makes none.
        "terraform": str(context.get("hosting_provider", "")) if provisioned else "",
        "managed_database": context.get("database") == "managed",
        # What this repository builds: name (image suffix and bake target) and the variable that holds its reference.
        "own_images": [
            {"name": name, "env": f"{name.upper().replace('-', '_')}_IMAGE"}
            for name in [
                *("api", *(["worker"] if worker else []), *names),
                *(*(["migrate"] if bundle else []), *(["postgres"] if derived else [])),
            ]
        ],
        # What it takes from others: name of the pin and variable. A managed database needs PostgreSQL's client only.
        "other_images": [
            *([] if derived else [{"name": postgres, "env": "POSTGRES_IMAGE"}]),
            {"name": proxy, "env": f"{proxy.upper()}_IMAGE"},
            *([{"name": "restic", "env": "RESTIC_IMAGE"}] if context.get("backup_method") == "pg_dump_restic" else []),
        ],
        "postgres_pin": postgres,
        "pgbackrest": derived,
        "registry": str(context.get("image_repository", "")).partition("/")[0],
        "server_dir": f"/opt/{context.get('project_slug', '')}",
        "admin_cidrs": [part for part in re.split(r"[\s,]+", str(context.get("admin_networks") or "")) if part],
        "decision": {title: decision_file(title, directory, destination) for title in DECISIONS} if destination else {},
    }


class Project(ContextHook):
    """Adds the computed facts to the context of every render, prompts included.

    A copy renders some 500 strings and files: facts are computed once for each state of the answers.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._known: dict[tuple[str, ...], dict[str, Any]] = {}

    def hook(self, context: dict[str, Any]) -> None:
        """Change the context in place."""
        conf = context.get("_copier_conf")
        destination = Path(str(conf["dst_path"])) if conf else None
        state = (str(destination), *(repr(context.get(name)) for name in USED_ANSWERS))
        if state not in self._known:
            self._known[state] = facts(context, destination)
        context.update(self._known[state])
