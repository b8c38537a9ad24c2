"""What follows from a project's answers: the files that it must have, its front ends, its variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

DECISIONS = ("provisioning", "proxy", "database", "migrations", "backups", "delivery")

RUNBOOKS = (
    "deploy-release",
    "first-hour",
    "handle-alarm",
    "handle-leaked-secret",
    "provision-server",
    "restore-database-backup",
    "rollback-release",
    "rotate-secrets",
    "run-database-migration",
)

# What a person can run in infra/bin.
PROGRAMS = (
    *("check", "check-image", "conformance", "deploy", "entry", "fetch", "logs", "maintenance", "migrate", "pack"),
    *(
        "record-images",
        "remote",
        "rollback",
        "scan-image",
        "server-alarms",
        "smoke",
        "status",
        "try",
        "update-standard",
    ),
)
# Those that one way of reaching a server needs.
DELIVERY_PROGRAMS = {"firewall_rule": ("firewall",), "self_hosted_runner": (), "server_pull": ("order", "pull")}

# Those that a way of backing up needs, and what they share.
BACKUP_PROGRAMS = {
    "pg_dump_restic": ("backup", "prune-backups", "restore", "restore-drill"),
    "pgbackrest": ("backup", "restore", "restore-drill"),
    "provider_snapshots": (),
}
BACKUP_RUNBOOKS = {
    "pg_dump_restic": ("replace-lost-server", "set-up-backups"),
    "pgbackrest": ("restore-to-a-moment", "set-up-backups"),
    "provider_snapshots": (),
}
BACKUP_FILES = {
    "pg_dump_restic": (
        *("backup.env.example", "bin/backup.sh", "bin/restic.sh", "hooks/README.md"),
        *(f"backup-host/{name}" for name in ("prune.conf", "prune-backups@.service", "prune-backups@.timer")),
    ),
    "pgbackrest": (
        *("backup.env.example", "bin/backup.sh", "bin/pgbackrest.sh", "hooks/README.md", "pgbackrest/Dockerfile"),
    ),
    "provider_snapshots": (),
}

# What a server gets, whichever way it is made.
SERVER_FILES = (
    *("README.md", "alarms.conf", "apt-periodic.conf", "audit.rules", "coredump.conf", "daemon.json", "fail2ban.conf"),
    *("issue", "journald.conf", "limits.conf", "modprobe.conf", "nftables-unit.conf", "nftables.conf", "profile.sh"),
    *("server-alarms.service", "server-alarms.timer", "sshd.conf", "sudoers", "sysctl.conf"),
)

ALWAYS = {
    ".copier-answers.yml",
    ".dockerignore",
    ".env.example",
    ".github/workflows/build.yml",
    ".github/workflows/deploy.yml",
    ".github/workflows/infra.yml",
    ".github/workflows/update-standard.yml",
    ".gitignore",
    ".pre-commit-config.yaml",
    "Dockerfile.api",
    *(f"docs/runbooks/{name}.md" for name in RUNBOOKS),
    "infra/README.md",
    *(f"infra/bin/{name}" for name in ("change.sh", "lib.sh", "server.sh", "tools.sh")),
    "infra/check.env",
    "infra/conformance/rules.rego",
    "infra/conformance/rules.yml",
    "infra/copier.txt",
    *(
        f"infra/custom/{name}"
        for name in (
            "README.md",
            "compose.yml",
            "conformance.yml",
            "maintenance.html",
            "schema.conf",
            "smoke.conf",
            "test",
        )
    ),
    "infra/deploy.conf",
    "infra/docker-bake.hcl",
    "infra/docker-compose.prod.yml",
    "infra/dotnet/BannedSymbols.txt",
    "infra/dotnet/banned-api.targets",
    "infra/postgres/10-roles.sql",
    *(f"infra/server/{name}" for name in SERVER_FILES),
    "infra/try/standin.pl",
}

# What makes and rehearses backups by a timer.
BACKUP_UNITS = [f"infra/server/{name}.{kind}" for name in ("backup", "restore-drill") for kind in ("service", "timer")]

# What Ansible needs, wherever servers are set up with it.
ANSIBLE = {
    f"infra/ansible/{name}"
    for name in (
        *(".ansible-lint", "README.md", "ansible.cfg", "site.yml", "filter_plugins/admitted.py"),
        *("group_vars/all/10-settings.yml", "group_vars/all/20-custom.yml"),
        *("host_vars/production.yml", "host_vars/staging.yml", "inventory/hosts.yml"),
        *("tasks/prove.yml", "tasks/refuse.yml"),
        *(
            f"roles/{role}/tasks/main.yml"
            for role in ("access", "alarms", "app", "base", "docker", "fail2ban", "firewall")
        ),
        *(f"roles/{role}/handlers/main.yml" for role in ("access", "base", "docker", "fail2ban")),
        *("roles/access/files/undo-access", "roles/alarms/templates/alarms.conf.j2"),
        "roles/app/tasks/backups.yml",
        *("roles/app/tasks/pull.yml", "roles/app/templates/pull.service.j2", "roles/app/templates/pull.timer.j2"),
        *("roles/base/tasks/swap.yml", "roles/base/templates/reboot.conf.j2"),
        *("roles/docker/tasks/repository.yml", "roles/docker/vars/main.yml", "roles/access/vars/main.yml"),
        *("roles/docker/templates/docker.sources.j2", "roles/docker/templates/preferences.j2"),
    )
}


def recorded(project: Path) -> dict[str, Any]:
    """Read the answers file of a project."""
    answers: dict[str, Any] = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    return answers


def programs(answers: dict[str, Any]) -> tuple[str, ...]:
    """Name what a person can run in infra/bin."""
    method = answers.get("backup_method", "pg_dump_restic")
    own_database = () if answers.get("database") == "managed" else ("upgrade-postgres",)
    history = () if method == "provider_snapshots" else ("backup-history",)
    return (*PROGRAMS, *DELIVERY_PROGRAMS[answers["delivery"]], *BACKUP_PROGRAMS[method], *history, *own_database)


def has_backup_workflow(answers: dict[str, Any]) -> bool:
    """Whether the pipeline asks for backups: there are some, and it reaches the server."""
    return answers.get("backup_method") != "provider_snapshots" and answers["delivery"] != "server_pull"


def front_ends(answers: dict[str, Any]) -> list[str]:
    """Name the front ends."""
    return [name for name in re.split(r"[ ,]+", answers["frontends"]) if name]


def own_services(answers: dict[str, Any]) -> list[str]:
    """Name the services that infra/custom/services/ can add to."""
    worker = ["worker"] if answers["worker"] else []
    database = [] if answers.get("database") == "managed" else ["postgres"]
    return ["api", *front_ends(answers), *worker, *database, answers["proxy"]]


def terraform_files(answers: dict[str, Any]) -> set[str]:
    """Name the files of Terraform."""
    if answers.get("provisioning") not in {"terraform", "terraform_ansible"}:
        return set()
    provider = answers["hosting_provider"]
    names = {
        *("README.md", "cloud-init.tf", "custom.auto.tfvars", "custom.tf", "main.tf", "mount-data-volume.sh"),
        *("outputs.tf", "terraform.tfvars", "variables.tf", "versions.tf", "tests/refused.tftest.hcl"),
        *("addresses.tf", "firewall.tf", "network.tf", "servers.tf", "storage.tf"),
        *(f"variables-{provider}.tf", f"tests/{provider}.tftest.hcl"),
        *(["backend.tf", "backend.hcl"] if answers["terraform_state"] == "object_storage" else []),
        *(["database.tf"] if answers.get("database") == "managed" else []),
    }
    return {f"infra/terraform/{name}" for name in names}


def expected_files(answers: dict[str, Any]) -> set[str]:
    """Name every file that a project with these recorded answers has, and no other."""
    fronts = front_ends(answers)
    decisions = answers["decisions_dir"]
    numbered = decisions == "docs/adr"
    return {
        *ALWAYS,
        "infra/Caddyfile" if answers["proxy"] == "caddy" else "infra/nginx.conf",
        *(f"infra/bin/{name}" for name in programs(answers)),
        *([] if answers.get("database") == "managed" else ["docs/runbooks/upgrade-postgres.md"]),
        *(BACKUP_UNITS if answers.get("backup_method") != "provider_snapshots" else []),
        *([".github/workflows/backups.yml"] if has_backup_workflow(answers) else []),
        *(f"infra/{name}" for name in BACKUP_FILES[answers.get("backup_method", "pg_dump_restic")]),
        *(f"docs/runbooks/{name}.md" for name in BACKUP_RUNBOOKS[answers.get("backup_method", "pg_dump_restic")]),
        *(
            ["infra/backup-host/bucket-policy.json"]
            if (answers.get("backup_method"), answers.get("backup_target")) == ("pg_dump_restic", "s3")
            else []
        ),
        *(f"infra/custom/services/{name}.yml" for name in own_services(answers)),
        *([".github/actionlint.yaml"] if answers["delivery"] == "self_hosted_runner" else []),
        *terraform_files(answers),
        *(["Dockerfile.worker"] if answers["worker"] else []),
        *(ANSIBLE if "ansible" in answers.get("provisioning", "") else []),
        *(f"Dockerfile.{front}" for front in fronts),
        f"{decisions}/template.md",
        *(
            f"{decisions}/{f'{number:04d}-' if numbered else ''}{title}.md"
            for number, title in enumerate(DECISIONS, start=1)
        ),
    }
