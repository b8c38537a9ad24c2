"""Filters that turn an answer into text that means the same literal string where it lands."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache

from jinja2 import Environment
from jinja2.ext import Extension

# Characters that CommonMark or the HTML inside it could read as markup.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$<>&\"'@:-])")


def hcl_string(value: str) -> str:
    """Quote for HCL 2: a JSON string in which template sequences are doubled (HCL native syntax, quoted templates)."""
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def markdown_text(value: str) -> str:
    """Escape for running text in Markdown, so that no character is read as markup."""
    return _MARKDOWN.sub(r"\\\1", value)


@cache
def _yaml_unprintable() -> re.Pattern[str]:
    """Match what YAML may not hold as it is (YAML 1.2.2, section 5.1), and line separators that YAML 1.1 knows."""
    # Takes longer to compile than most projects' whole text, which is ASCII, takes to quote.
    return re.compile("[^\t\n\r -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def yaml_string(value: str) -> str:
    """Quote for YAML 1.1 and 1.2: a JSON string, in which what YAML cannot print is escaped, is a scalar in both."""
    if value.isascii():
        return json.dumps(value).replace("\x7f", r"\x7F")
    return _yaml_unprintable().sub(lambda match: f"\\U{ord(match[0]):08X}", json.dumps(value, ensure_ascii=False))


def slug(value: str) -> str:
    """Propose a slug for a title: ASCII letters and digits, joined by hyphens; `app` when nothing is left."""
    ascii_text = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_text)
    trimmed = words.lstrip("-0123456789")[:40].strip("-")
    return trimmed if len(trimmed) > 1 else "app"


def pascal(value: str) -> str:
    """Propose a .NET name for a slug: `harbour-shop` becomes `HarbourShop`."""
    return "".join(word[:1].upper() + word[1:] for word in value.split("-"))


class Quoting(Extension):
    """Registers the filters of this module under their own names."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        for function in (hcl_string, markdown_text, yaml_string, slug, pascal):
            environment.filters[function.__name__] = function
