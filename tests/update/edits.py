"""What people change in a generated project: as data, so that an update can be asked about each.

`PLACES` are changes where the template has a place for them: they never conflict. `EDITS` are changes in the midst of
generated files. What becomes of each is the table in docs/update.md.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import yaml

CONFLICT = re.compile(r"^<<<<<<< .*?^>>>>>>> [^\n]*$", re.MULTILINE | re.DOTALL)


def calm(text: str) -> str:
    """Return a file's text without its conflicts."""
    return CONFLICT.sub("", text)


@dataclass(frozen=True)
class Change(ABC):
    """One change of one file."""

    file: str

    @abstractmethod
    def make(self, project: Path) -> None:
        """Change the project."""

    @abstractmethod
    def holds(self, project: Path) -> bool:
        """Whether the project has the change, and no conflict about it."""

    def fits(self, project: Path) -> bool:
        """Whether the project has what is to be changed."""
        return (project / self.file).is_file()


@dataclass(frozen=True)
class Written(Change):
    """A file of the project's own, or one that was handed over to it: nothing but this stays in it."""

    text: str

    def make(self, project: Path) -> None:
        """Write the whole file."""
        path = project / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text, encoding="utf-8")

    def holds(self, project: Path) -> bool:
        """Not one byte differs."""
        return (project / self.file).is_file() and (project / self.file).read_text(encoding="utf-8") == self.text

    def fits(self, project: Path) -> bool:
        """A place for such files need not exist yet."""
        return not self.file.startswith("infra/ansible/") or (project / "infra/ansible").is_dir()


@dataclass(frozen=True)
class Replaced(Change):
    """Text in a generated file that became another; `now` is where the file is after the update."""

    old: str
    new: str
    now: str = ""

    def fits(self, project: Path) -> bool:
        """Whether the text is there, in the file as it is called in this release."""
        return super().fits(project) and self.old in (project / self.file).read_text(encoding="utf-8")

    def make(self, project: Path) -> None:
        """Replace the first occurrence."""
        path = project / self.file
        path.write_text(path.read_text(encoding="utf-8").replace(self.old, self.new, 1), encoding="utf-8")

    def holds(self, project: Path) -> bool:
        """The new text is there."""
        path = project / (self.now or self.file)
        return path.is_file() and self.new in calm(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Appended(Change):
    """Lines at the end of a file; `after` is what a migration makes of them.

    Lines that only some releases understand name what another file of such a project holds: its path, and the text.
    """

    text: str
    after: str = ""
    where: tuple[str, str] = ("", "")

    def fits(self, project: Path) -> bool:
        """Whether the file is there, and the lines mean something."""
        file, text = self.where
        return super().fits(project) and (not file or text in (project / file).read_text(encoding="utf-8"))

    def make(self, project: Path) -> None:
        """Add the lines."""
        with (project / self.file).open("a", encoding="utf-8") as file:
            file.write(self.text)

    def holds(self, project: Path) -> bool:
        """The lines are there, each once."""
        text = calm((project / self.file).read_text(encoding="utf-8")) if (project / self.file).is_file() else ""
        return text.count(self.after or self.text) == 1 and (not self.after or self.text not in text)


@dataclass(frozen=True)
class Deleted(Change):
    """A file that its owner does not want."""

    def make(self, project: Path) -> None:
        """Delete it."""
        (project / self.file).unlink()

    def holds(self, project: Path) -> bool:
        """It stays gone."""
        return not (project / self.file).exists()


@dataclass(frozen=True)
class Renamed(Change):
    """A file that its owner calls something else."""

    to: str

    def make(self, project: Path) -> None:
        """Give it the other name."""
        (project / self.to).parent.mkdir(parents=True, exist_ok=True)
        (project / self.file).rename(project / self.to)

    def holds(self, project: Path) -> bool:
        """It is there under the owner's name only."""
        return (project / self.to).is_file() and not (project / self.file).exists()


@dataclass(frozen=True)
class Reformatted(Change):
    """A YAML file as an editor's formatter leaves it: other indentation, quotes and line breaks, comments lost."""

    def make(self, project: Path) -> None:
        """Write the same data in another form."""
        path = project / self.file
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(data, indent=4, sort_keys=False), encoding="utf-8")

    def holds(self, project: Path) -> bool:
        """It is YAML, and without a conflict."""
        text = (project / self.file).read_text(encoding="utf-8")
        return not CONFLICT.search(text) and isinstance(yaml.safe_load(text), dict)


@dataclass(frozen=True)
class Edit:
    """What somebody wanted, in the words of the table, and the changes that it takes."""

    title: str
    changes: tuple[Change, ...]

    @property
    def alone(self) -> bool:
        """Whether the whole file changes, so that no other edit of it can be told apart."""
        return any(isinstance(change, Reformatted) for change in self.changes)

    def fits(self, project: Path) -> bool:
        """Whether the project has everything that is to be changed."""
        return all(change.fits(project) for change in self.changes)

    def make(self, project: Path) -> None:
        """Make all changes."""
        for change in self.changes:
            change.make(project)

    def holds(self, project: Path) -> bool:
        """Whether all of them are still there."""
        return all(change.holds(project) for change in self.changes)

    @property
    def files(self) -> set[str]:
        """The files that are changed."""
        return {change.file for change in self.changes}


def edit(title: str, *changes: Change) -> Edit:
    """Describe an edit."""
    return Edit(title, changes)


COMPOSE = "infra/docker-compose.prod.yml"

PLACES = [
    edit(
        "a service more",
        Written(
            "infra/custom/compose.yml",
            """\
# Sessions and rate limits.
services:
  cache:
    image: ${CACHE_IMAGE:?is missing, it is the cache image by digest}
    restart: unless-stopped
    read_only: true
    networks: [internal]
networks:
  internal:
    internal: true
""",
        ),
        Written("infra/custom/images.conf", "CACHE_IMAGE=docker.io/valkey/valkey:9.0\n"),
        Written("infra/custom/check.env", f"CACHE_IMAGE=docker.io/valkey/valkey@sha256:{'ab' * 32}\nSMTP_PASSWORD=x\n"),
    ),
    edit(
        "variables of a service",
        Written("infra/custom/api.env", "Smtp__Host=mail.example.com\nSmtp__Password=${SMTP_PASSWORD}\n"),
        Written("infra/custom/worker.env", "Smtp__Host=mail.example.com\n"),
    ),
    edit(
        "a domain more, and headers of a site",
        Written("infra/custom/caddy/other_sites.caddy", "docs.example.com {\n\timport public\n}\n"),
        Written("infra/custom/caddy/web.caddy", "redir /old /new 308\n"),
        Written("infra/custom/nginx/other_sites.conf", "# docs.example.com follows\n"),
    ),
    edit("the tests' command", Written("infra/custom/test", "#!/usr/bin/env bash\nset -euo pipefail\nmake test\n")),
    edit("what a release must answer", Written("infra/custom/smoke.conf", "api /health 200\napi /version 200\n")),
    edit("counted contract steps", Written("infra/custom/schema.conf", "CONTRACTED=2\nPREPARED=3\n")),
    edit("a maintenance page", Written("infra/custom/maintenance.html", "<h1>Back at nine</h1>\n")),
    edit(
        "known hosts",
        Written("infra/custom/known_hosts", "shop.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHost\n"),
    ),
    edit("texts that an image may hold", Written("infra/custom/image-texts", "NEXT_PUBLIC_VERSION\n")),
    edit(
        "assertions of a rehearsed restore",
        Written("infra/hooks/restore-drill.d/10-orders.sql", "SELECT count(*) > 0 FROM orders;\n"),
        Written("infra/hooks/anonymise.sql", "UPDATE customers SET mail = id || '@example.com';\n"),
    ),
    edit(
        "a base image in a Dockerfile", Written("Dockerfile.api", "FROM mcr.microsoft.com/dotnet/aspnet:10.0-noble\n")
    ),
    edit("what the builder gets", Appended(".dockerignore", "**/fixtures\n")),
    edit("what Git ignores", Appended(".gitignore", "/coverage/\n")),
    edit("a hook of pre-commit", Appended(".pre-commit-config.yaml", "      # and our own\n")),
    edit("a filled decision", Appended("docs/adr/0004-migrations.md", "\nReviewed in spring, still right.\n")),
    edit("a deleted decision", Deleted("docs/adr/0002-proxy.md")),
    edit("a renamed decision", Renamed("docs/adr/0001-provisioning.md", "docs/adr/0001-servers-by-hand.md")),
    edit("a decision of the project's own", Written("docs/adr/0007-event-bus.md", "# Event bus\n")),
    edit(
        "a workflow of the project's own", Written(".github/workflows/labels.yml", "name: labels\non: push\njobs: {}\n")
    ),
    edit("a runbook of the project's own", Written("docs/runbooks/refund-order.md", "# Refund an order\n")),
    edit(
        "Ansible's variables, one of which was renamed",
        Appended(
            "infra/ansible/group_vars/all/20-custom.yml",
            'automatic_reboot_time: "04:30"\n# Small servers.\nswap_file_mb: 1024  # 1 GiB\n',
            after='automatic_reboot_time: "04:30"\n# Small servers.\nswap_file_mib: 1024  # 1 GiB\n',
            where=("infra/ansible/group_vars/all/10-settings.yml", "swap_file_mb:"),
        ),
    ),
    edit(
        "Ansible's inventory",
        Appended("infra/ansible/inventory/hosts.yml", "# The second office reaches both by VPN.\n"),
    ),
    edit("Terraform's values", Appended("infra/terraform/custom.auto.tfvars", '# server_type = "cpx31"\n')),
    edit(
        "a resource more in Terraform",
        Appended("infra/terraform/custom.tf", '\nlocals {\n  cost_centre = "shop"\n}\n'),
    ),
    edit(
        "what a server keeps, by a variable",
        Written("infra/ansible/host_vars/staging.yml", "---\n# Small\ndocker_from: repository\n"),
    ),
]

EDITS = [
    edit("log size in the Compose file", Replaced(COMPOSE, "max-size: 10m", "max-size: 50m")),
    edit(
        "a variable in the API's `environment`",
        Replaced(COMPOSE, "    Cors__WebOrigin:", "    Features__Checkout: enabled\n    Cors__WebOrigin:"),
    ),
    edit("the API's memory in the Compose file", Replaced(COMPOSE, "${API_MEMORY:-512m}", "${API_MEMORY:-1g}")),
    edit(
        "a service in the midst of the Compose file",
        Replaced(
            COMPOSE,
            "services:\n  api-blue:",
            "services:\n  mailpit:\n    <<: *hardened\n"
            f"    image: docker.io/axllent/mailpit:v1.27@sha256:{'cd' * 32}\n"
            "    networks: [internal]\n\n  api-blue:",
        ),
    ),
    edit(
        "a network at the end of `networks:`",
        Replaced(COMPOSE, "\nvolumes:\n", "  # The office's printer.\n  printer:\n\nvolumes:\n"),
    ),
    edit("longer health checks of the database", Replaced(COMPOSE, "start_period: 120s", "start_period: 300s")),
    edit("a longer HSTS in the Caddyfile", Replaced("infra/Caddyfile", "max-age=31536000", "max-age=63072000")),
    edit(
        "a header in the Caddyfile",
        Replaced(
            "infra/Caddyfile", "\t\t-X-Powered-By\n", "\t\t-X-Powered-By\n\t\t?Cross-Origin-Opener-Policy same-origin\n"
        ),
    ),
    edit(
        "a site at the end of the Caddyfile",
        Appended("infra/Caddyfile", "\nold.example.com {\n\tredir https://example.com\n}\n"),
    ),
    edit("the retries of the Caddyfile", Replaced("infra/Caddyfile", "lb_try_interval 20ms", "lb_try_interval 50ms")),
    edit(
        "a job in the workflow `build`",
        Replaced(
            ".github/workflows/build.yml",
            "jobs:\n  test:",
            "jobs:\n  licences:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make licences\n\n  test:",
        ),
    ),
    edit(
        "a time limit in the workflow `build`",
        Replaced(".github/workflows/build.yml", "timeout-minutes: 45", "timeout-minutes: 90"),
    ),
    edit(
        "a step before the tests",
        Replaced(
            ".github/workflows/build.yml",
            "      - name: Run the tests\n",
            "      - name: Start the mail catcher\n        run: make mail\n      - name: Run the tests\n",
        ),
    ),
    edit(
        "a job in the workflow `infra`",
        Replaced(
            ".github/workflows/infra.yml",
            "  secrets:\n    name: Secrets\n",
            "  spelling:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make spelling\n\n"
            "  secrets:\n    name: Secrets\n",
        ),
    ),
    edit(
        "a branch more in the workflow `infra`",
        Replaced(".github/workflows/infra.yml", "branches: [main]", "branches: [main, next]"),
    ),
    edit(
        "another registry in `deploy.conf`",
        Replaced("infra/deploy.conf", "IMAGE_REPOSITORY=ghcr.io", "IMAGE_REPOSITORY=mirror.example.com"),
    ),
    edit(
        "a line at the end of `deploy.conf`",
        Appended("infra/deploy.conf", "# Ask the platform team before a change here.\n"),
    ),
    edit(
        "a variable among the application's in `.env.example`",
        Replaced(".env.example", "WEB_ORIGIN=\n", "WEB_ORIGIN=\n# Password at the mail provider.\nSMTP_PASSWORD=\n"),
    ),
    edit(
        "a variable at the end of `.env.example`",
        Appended(".env.example", "\n# ── Ours ──\n# Key of the map service.\nMAP_KEY=\n"),
    ),
    edit(
        "a chapter at the end of `infra/README.md`",
        Appended("infra/README.md", "\n## Who is on call\n\nSee the rota in the wiki.\n"),
    ),
    edit(
        "a target in `docker-bake.hcl`",
        Appended("infra/docker-bake.hcl", '\ntarget "docs" {\n  dockerfile = "Dockerfile.docs"\n}\n'),
    ),
    edit("a role of the database", Appended("infra/postgres/10-roles.sql", "\nCREATE ROLE reporting NOLOGIN;\n")),
    edit("a deleted runbook", Deleted("docs/runbooks/rotate-secrets.md")),
    edit("a renamed runbook", Renamed("docs/runbooks/handle-leaked-secret.md", "docs/runbooks/secret-leaked.md")),
    edit(
        "a line at the top of a runbook",
        Replaced(
            "docs/runbooks/deploy-release.md", "# Deploy a release\n", "# Deploy a release\n\nNever on a Friday.\n"
        ),
    ),
    edit("a line at the end of a runbook", Appended("docs/runbooks/rollback-release.md", "\nTell the support team.\n")),
    edit(
        "who may log in, in `sshd.conf`",
        Replaced("infra/server/sshd.conf", "AllowUsers admin deploy", "AllowUsers admin deploy audit"),
    ),
    edit("a kernel setting", Replaced("infra/server/sysctl.conf", "-kernel.sysrq = 0", "-kernel.sysrq = 4")),
    edit(
        "a rule of the server's firewall",
        Replaced(
            "infra/server/nftables.conf",
            "    udp dport 443 accept\n",
            "    udp dport 443 accept\n    udp dport 51820 accept\n",
        ),
    ),
    edit(
        "a driver that is let in, in a file that was renamed",
        Replaced(
            "infra/server/modules.conf",
            "install udf /bin/false\n",
            "# udf: our backup disks\n",
            now="infra/server/modprobe.conf",
        ),
    ),
    edit(
        "a changed script", Replaced("infra/bin/record-images", "set -euo pipefail\n", "set -euo pipefail\numask 077\n")
    ),
    edit("a workflow that an editor formatted", Reformatted(".github/workflows/infra.yml")),
    edit("a Compose file that an editor formatted", Reformatted(COMPOSE)),
]
