"""Write what can be generated of docs/ (`make docs`), so that it cannot drift from what it describes.

`questions.md` comes from `copier.yml`; `gallery.md`, in a module of its own, from what the template renders.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "questions.md"

HEADER = """\
# Questions

Every question in the order in which `copier copy` asks it. This page is written by `make docs` from `copier.yml`.

Answer on the command line with `-d name=value`, or in a file with `--data-file answers.yml`. Answers are recorded in
`.copier-answers.yml`; change one with `copier update --trust --vcs-ref=:current: -d name=value`. None is a secret:
passwords, tokens and private addresses live in each server's `.env`.
"""


def sections(text: str) -> list[tuple[str, list[str]]]:
    """Return the banners of `copier.yml` with the keys below each."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if banner := re.match(r"# ─── (?P<title>.+?) ─+$", line):
            found.append((banner["title"], []))
        elif key := re.match(r"(?P<name>[a-z]\w*):", line):
            # The first banner is the settings'; their names begin with an underscore.
            found[-1][1].append(key["name"])
    return found


def code(value: object) -> str:
    """Show a value as the user would type it."""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def question(name: str, spec: dict[str, Any]) -> str:
    """Describe one question."""
    lines = [f"### {name}", "", str(spec["help"]).strip(), ""]
    if spec.get("ask") is False:
        lines += ["Not asked yet: it has one value.", ""]
    if "when" in spec:
        condition = re.sub(r"^\[\[ | ]]$", "", str(spec["when"]))
        lines += [f"Asked when {code(condition)}.", ""]
    choices = spec.get("choices")
    if isinstance(choices, dict):
        lines += ["| value | meaning |", "| --- | --- |"]
        for label, value in choices.items():
            limit = ""
            if isinstance(value, dict):
                sentence = re.search(r"%\](.+?)\[%", str(value.get("validator", "")))
                limit = f". Refused elsewhere: {sentence[1]}" if sentence else ""
            shown = value["value"] if isinstance(value, dict) else value
            lines.append(f"| {code(shown)} | {label}{limit} |")
        lines.append("")
    elif choices:
        lines += ["One of " + ", ".join(code(choice) for choice in choices) + ".", ""]
    if "default" in spec:
        default = spec["default"]
        if isinstance(default, str):
            # A renamed question reads its old name first, for updates: no matter to whoever answers it now.
            default = re.sub(r"^\[\[ \w+ \| default\((.+)\) ]]$", r"[[ \1 ]]", default)
        lines.append(f"Default: {code(default) if default != '' else 'empty'}.")
    else:
        lines.append("No default: needs an answer.")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the whole page for the text of `copier.yml`."""
    specs: dict[str, Any] = yaml.safe_load(text)
    parts = [HEADER]
    for title, names in sections(text)[1:]:
        parts.append(f"## {title}\n")
        parts += [question(name, specs[name]) + "\n" for name in names]
    return "\n".join(parts)


if __name__ == "__main__":
    from docs import gallery

    TARGET.write_text(page((ROOT / "copier.yml").read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)} written", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        text = gallery.page(gallery.rendered(Path(folder)))
    gallery.TARGET.write_text(text, encoding="utf-8")
    print(f"{gallery.TARGET.relative_to(ROOT)} written", file=sys.stderr)
