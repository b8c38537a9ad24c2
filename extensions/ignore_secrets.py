"""What Git must never take, and must: the content of a new `.gitignore`, and the task that appends it to an old one.

The file belongs to the project, so nothing in it is changed or moved; lines that are there already are not added again.
"""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

HEADER = "# Files of the servers that must never be committed, and what must be, whatever stands above"
# Exceptions, each with a pattern for lines above which it would have no effect. Every .NET repository ignores `bin/`.
EXCEPTIONS = {
    "!.env.example": re.compile(r"\.env"),
    "!infra/check.env": re.compile(r"\.env|infra"),
    "!infra/custom/*.env": re.compile(r"\.env|infra"),
    "!infra/bin/": re.compile(r"(?i)b\]?in|infra"),
    "!infra/bin/**": re.compile(r"(?i)b\]?in|infra"),
    # What Terraform's usual .gitignore leaves out: values, which hold no secret here, and the lock file.
    "!infra/terraform/*.tfvars": re.compile(r"tfvars|infra|terraform"),
    "!infra/terraform/*_override.tf": re.compile(r"override|infra|terraform"),
    "!infra/terraform/.terraform.lock.hcl": re.compile(r"\.terraform|hcl|infra"),
}
IGNORED = (
    *(".env", ".env.*", "infra/.env", "infra/migrations/", "release.env"),
    # Terraform's: providers, and files that hold whatever its resources hold.
    *(".terraform/", "*.tfstate", "*.tfstate.*", "*.tfplan", "crash.log", "crash.*.log"),
)
LINES = (*IGNORED, *EXCEPTIONS)


def after_last(lines: list[str], reversing: list[str]) -> list[str]:
    """Return the lines that follow the last of those that might reverse ours."""
    return lines[max((number for number, line in enumerate(lines, start=1) if line in reversing), default=0) :]


def missing_lines(text: str) -> list[str]:
    """Return our lines that `text` does not have, or reverses further down by lines of its own."""
    lines = [line.strip() for line in text.splitlines()]
    foreign = [line for line in lines if line not in LINES and not line.startswith("#")]
    ignored = after_last(lines, [line for line in foreign if line.startswith("!")])
    missing = [line for line in IGNORED if line not in ignored]
    for exception, reversing in EXCEPTIONS.items():
        kept = after_last(lines, [line for line in foreign if not line.startswith("!") and reversing.search(line)])
        # An exception must stand below what it is an exception from.
        if exception not in kept or (missing and exception == "!.env.example"):
            missing.append(exception)
    return missing


def ignore(path: Path) -> list[str]:
    """Append to `path` the lines that are missing and return them."""
    # Bytes that are no UTF-8 stay as they are, and so do line ends.
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    present = {line.strip() for line in text.splitlines()}
    missing = missing_lines(text)
    if missing:
        newline = "\r\n" if "\r\n" in text else "\n"
        separator = "" if not text else newline if text.endswith("\n") else newline * 2
        addition = newline.join([*([] if HEADER in present else [HEADER]), *missing, ""])
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(separator + addition)
    return missing


def new_file() -> str:
    """Return a whole `.gitignore` for a project that has none."""
    return "\n".join([HEADER, *LINES, ""])


def lacks_secrets(folder: str) -> bool:
    """Say whether the `.gitignore` of a folder would let a secret through."""
    path = Path(folder) / ".gitignore"
    return path.exists() and bool(missing_lines(path.read_bytes().decode("utf-8", "surrogateescape")))


class IgnoreSecrets(Extension):
    """Lets the template write a new `.gitignore`, and the task run only where an existing one needs it."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals.update(secrets_to_ignore=new_file, gitignore_lacks_secrets=lacks_secrets)


if __name__ == "__main__":
    added = ignore(Path(".gitignore"))
    if added:
        print("    added to .gitignore:", " ".join(added))
