"""Task of `copier copy`: makes Git ignore what must never be committed, by appending to `.gitignore` once.

The file belongs to the project, so nothing in it is changed or moved; lines that are there already are not added again.
"""

from __future__ import annotations

from pathlib import Path

HEADER = "# Secrets of the servers and other files that must never be committed"
# `.env.example` names variables without values and stays committed, whatever an earlier line says.
LINES = (".env", ".env.*", "!.env.example", "infra/.env", "infra/migrations/", "release.env")


def ignore(path: Path) -> list[str]:
    """Append to `path` the lines that are missing and return them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    present = {line.strip() for line in text.splitlines()}
    missing = [line for line in LINES if line not in present]
    if missing:
        newline = "\r\n" if "\r\n" in text else "\n"
        separator = "" if not text else newline if text.endswith("\n") else newline * 2
        addition = newline.join([*([] if HEADER in present else [HEADER]), *missing, ""])
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(separator + addition)
    return missing


if __name__ == "__main__":
    added = ignore(Path(".gitignore"))
    if added:
        print("    added to .gitignore:", " ".join(added))
