"""Facts that follow from the answers: computed at every render, never stored, so that a release may change them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from copier_template_extensions import ContextHook

# The decisions that a project starts with, in the order in which they get numbers.
DECISIONS = ("provisioning", "proxy", "database", "migrations", "backups", "delivery")


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

    `docs/adr` numbers its records. A number that the project uses already is never taken, and a record that is there under
    any number keeps it.
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


class Project(ContextHook):
    """Adds the computed facts to the context of every render, prompts included (so each answer may still be missing)."""

    def hook(self, context: dict[str, Any]) -> None:
        """Change the context in place."""
        names = [part for part in re.split(r"[\s,]+", str(context.get("frontends") or "")) if part]
        production_domain = str(context.get("production_domain", ""))
        staging_domain = str(context.get("staging_domain", ""))
        fronts = [
            frontend(name, primary=index == 0, production_domain=production_domain, staging_domain=staging_domain)
            for index, name in enumerate(names)
        ]
        worker = bool(context.get("worker"))
        managed = context.get("database") == "managed"
        bundle = context.get("migrations") == "ef_bundle"
        proxy = str(context.get("proxy", "caddy"))
        slug = str(context.get("project_slug", ""))

        context["fronts"] = fronts
        context["managed_database"] = managed
        # What this repository builds: name (image suffix and bake target) and the variable that holds its reference.
        context["own_images"] = [
            {"name": name, "env": f"{name.upper().replace('-', '_')}_IMAGE"}
            for name in ["api", *(["worker"] if worker else []), *names, *(["migrate"] if bundle else [])]
        ]
        # What it takes from others: name of the pin and variable. A managed database needs PostgreSQL's client only.
        context["other_images"] = [
            {"name": f"postgres-{context.get('postgres_version', '')}", "env": "POSTGRES_IMAGE"},
            {"name": proxy, "env": f"{proxy.upper()}_IMAGE"},
        ]
        context["registry"] = str(context.get("image_repository", "")).partition("/")[0]
        context["server_dir"] = f"/opt/{slug}"
        context["admin_cidrs"] = [part for part in re.split(r"[\s,]+", str(context.get("admin_networks") or "")) if part]

        conf = context.get("_copier_conf")
        destination = Path(str(conf["dst_path"])) if conf else Path()
        directory = str(context.get("decisions_dir", ""))
        context["decision"] = {title: decision_file(title, directory, destination) for title in DECISIONS} if conf else {}
