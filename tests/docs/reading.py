"""Reads generated Markdown as CommonMark with tables, the way GitHub does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from markdown_it.token import Token

# Front ends none, one and several; both proxies; both databases; both kinds of migration; every way of provisioning.
PROFILES = [
    "default",
    "minimal",
    "everything",
    "nginx-managed",
    "managed-bundle",
    "runner",
    "terraform",
    "terraform-local",
    "terraform-ovh",
    "name-with-markup",
]

PLACES = {
    "machine": (
        "# on your machine",
        "# on your machine, in the repository",
        "# on your machine, outside the admin networks",
    ),
    "deploy": ("# on the server, as deploy",),
    "root": ("# on the server, as root",),
    "keeper": ("# on the backup host, as root",),
}
"""Where a code block runs, by its first line."""


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    code: str
    line: int

    @property
    def place(self) -> str:
        """Where it runs; an error when its first line does not say so."""
        first = self.code.partition("\n")[0]
        places = [place for place, comments in PLACES.items() if first in comments]
        assert places, f"line {self.line}: the block begins with {first!r} instead of saying where it runs"
        return places[0]


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(path: Path) -> list[Token]:
    """Return the parsed file."""
    return _parser().parse(path.read_text(encoding="utf-8"))


def documents(project: Path) -> list[Path]:
    """Return every Markdown file of a project."""
    return sorted(path for path in project.rglob("*.md") if ".git" not in path.parts)


def runbooks(project: Path) -> list[Path]:
    """Return the runbooks of a project."""
    return sorted((project / "docs" / "runbooks").glob("*.md"))


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a file."""
    return [
        Block(token.info.strip(), token.content, (token.map or [0])[0] + 1)
        for token in tokens(path)
        if token.type in {"fence", "code_block"}
    ]


def text_of(token: Token) -> str:
    """Return what a reader sees of an inline token."""
    return "".join(child.content if child.type in {"text", "code_inline"} else " " for child in token.children or [])


def headings(path: Path) -> list[tuple[int, str]]:
    """Return level and text of each heading."""
    found = tokens(path)
    return [
        (int(token.tag[1]), text_of(following)) for token, following in pairwise(found) if token.type == "heading_open"
    ]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    given: set[str] = set()
    for _, text in headings(path):
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 1
        unique = anchor
        while unique in given:
            unique, number = f"{anchor}-{number}", number + 1
        given.add(unique)
    return given


def links(path: Path) -> Iterator[tuple[str, str]]:
    """Return text and target of each link."""
    for token in tokens(path):
        children = token.children or []
        for position, child in enumerate(children):
            if child.type == "link_open":
                following = children[position + 1]
                yield following.content, str(child.attrs["href"])
