"""Colours code, and marks the words that changed within lines."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from functools import cache
from html import escape
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from pygments.formatters import HtmlFormatter
from pygments.lexers import find_lexer_class_for_filename, get_lexer_by_name
from pygments.lexers.special import TextLexer
from pygments.token import STANDARD_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pygments.lexer import Lexer
    from pygments.token import _TokenType

    from tests.review.comparison import Line

LIGHT, DARK = "xcode", "github-dark"
"""Styles of Pygments."""

# What a file's name alone does not tell Pygments, or tells it wrongly.
LANGUAGES = {
    "*/bin/*": "bash",
    "*/custom/test": "bash",
    "*.env*": "bash",
    "Dockerfile.*": "docker",
    "*nginx*.conf": "nginx",
    "*.conf": "ini",
    "*.caddy": "caddyfile",
    "*.tfvars": "terraform",
    "*.sql": "postgres",
    "*.pl": "perl",
    "*.targets": "xml",
}

Span = tuple[int, int]

# With a smaller share of common words, marks would only be noise.
_ALIKE = 0.5
# Comparing takes the square of the number of words.
_MANY = 3000


def style(selector: str, name: str) -> str:
    """Return the CSS of a style of Pygments for what is below `selector`."""
    return "\n".join(HtmlFormatter(style=name).get_token_style_defs(selector))  # type: ignore[no-untyped-call]


@cache
def _lexer(path: str) -> Lexer:
    options = {"stripnl": False, "ensurenl": False}
    name = next((name for pattern, name in LANGUAGES.items() if fnmatchcase(path, pattern)), None)
    if name:
        return get_lexer_by_name(name, **options)
    kind = find_lexer_class_for_filename(path) or TextLexer
    return kind(**options)


def _css_class(token: _TokenType) -> str:
    while token not in STANDARD_TYPES and token.parent:
        token = token.parent
    return STANDARD_TYPES.get(token, "")


def _syntax(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Split text into pieces of one line each, with the class that colours them; a line feed stands alone."""
    # Pygments takes a carriage return for the end of a line.
    for token, value in _lexer(path).get_tokens(text.replace("\r", "␍")):
        for piece in re.split(r"(\n)", value):
            if piece:
                yield _css_class(token), piece


def _words(lines: Sequence[str]) -> list[str]:
    return re.findall(r"\w+|[^\S\n]+|\n|[^\w\s]", "\n".join(lines))


def changed_words(old: Sequence[str], new: Sequence[str]) -> tuple[list[list[Span]], list[list[Span]]]:
    """Say which parts of neighbouring lines changed.

    Returns:
        For each old and each new line the spans of characters; nothing where the texts have little in common.
    """
    nothing: tuple[list[list[Span]], list[list[Span]]] = ([[] for _ in old], [[] for _ in new])
    before, after = _words(old), _words(new)
    if not before or not after or len(before) + len(after) > _MANY:
        return nothing
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    # Signs and spaces are alike in any two texts.
    common = sum(before[block.a + n].isalnum() for block in matcher.get_matching_blocks() for n in range(block.size))
    if common < _ALIKE * min(sum(map(str.isalnum, words)) for words in (before, after)):
        return nothing
    changes = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
    return (
        _spans(before, [(first, last) for _, first, last, _, _ in changes]),
        _spans(after, [(first, last) for _, _, _, first, last in changes]),
    )


def _spans(words: list[str], ranges: list[Span]) -> list[list[Span]]:
    """Turn ranges of words into spans of characters, line by line; spans with only white space between them are one."""
    marked = {position for first, last in ranges for position in range(first, last)}
    for position in range(1, len(words) - 1):
        if words[position].isspace() and {position - 1, position + 1} <= marked:
            marked.add(position)
    lines: list[list[Span]] = [[]]
    column = 0
    for position, word in enumerate(words):
        if word == "\n":
            lines.append([])
            column = 0
            continue
        if position in marked:
            spans = lines[-1]
            start = spans.pop()[0] if spans and spans[-1][1] == column else column
            spans.append((start, column + len(word)))
        column += len(word)
    return lines


def _html(pieces: Iterable[tuple[str, str]], spans: Sequence[Span]) -> str:
    """Write a line as HTML, with `<mark>` around the spans."""
    edges = {edge for span in spans for edge in span}
    written: list[str] = []
    column = 0
    inside = False
    for css, text in pieces:
        cuts = [0, *(edge - column for edge in sorted(edges) if column < edge < column + len(text)), len(text)]
        for first, last in pairwise(cuts):
            now = any(start <= column + first < end for start, end in spans)
            if now != inside:
                written.append("<mark>" if now else "</mark>")
                inside = now
            part = escape(text[first:last], quote=False)
            written.append(f'<span class="{css}">{part}</span>' if css not in {"", "n", "p", "w"} else part)
        column += len(text)
    return "".join(written) + ("</mark>" if inside else "")


def lines_as_html(path: str, lines: Sequence[Line]) -> list[str]:
    """Return the lines of a hunk as HTML: coloured, and with the words marked that changed."""
    marks: dict[int, list[Span]] = {}
    position = 0
    runs = [(kind, len(list(run))) for kind, run in groupby(line.kind for line in lines)]
    for (kind, length), following in zip(runs, [*runs[1:], ("", 0)], strict=True):
        if (kind, following[0]) == ("-", "+"):
            middle, end = position + length, position + length + following[1]
            old, new = changed_words(
                [line.text for line in lines[position:middle]], [line.text for line in lines[middle:end]]
            )
            marks |= dict(zip(range(position, end), old + new, strict=True))
        position += length
    written = [""] * len(lines)
    # Each side is read as a text of its own; what both have is written once, as the new side reads it.
    for side in ("-", "+"):
        places = [place for place, line in enumerate(lines) if line.kind in {" ", side}]
        pieces: list[list[tuple[str, str]]] = [[]]
        for css, text in _syntax(path, "\n".join(lines[place].text for place in places)):
            if text == "\n":
                pieces.append([])
            else:
                pieces[-1].append((css, text))
        for place, line in zip(places, pieces, strict=False):
            written[place] = _html(line, marks.get(place, ()))
    return written
