"""Pins: the versions, digests and commits of `pins.toml`, as functions for templates.

A pin is computed at every copy and update and never stored as an answer, so that a release of the template can
change it.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

Pin = dict[str, str]


@cache
def load() -> dict[str, dict[str, Pin]]:
    """Read `pins.toml` once per process."""
    return tomllib.loads(Path(__file__).with_name("pins.toml").read_text(encoding="utf-8"))


def pinned_image(name: str) -> str:
    """Return IMAGE:TAG, with @DIGEST when it is known.

    Raises:
        KeyError: no image of that name is pinned.
    """
    pin = load()["images"][name]
    digest = f"@{pin['digest']}" if pin["digest"] else ""
    return f"{pin['image']}:{pin['tag']}{digest}"


def pinned_action(name: str) -> str:
    """Return the value of a workflow's `uses:`: OWNER/NAME@COMMIT and the version as a comment.

    Raises:
        KeyError: no action of that name is pinned.
    """
    pin = load()["actions"][name]
    return f"{name}@{pin['commit']} # {pin['version']}"


def pinned_hook(name: str) -> Pin:
    """Return `version` and `commit` of a pre-commit hook repository."""
    return load()["hooks"][name]


def pinned_version(name: str) -> str:
    """Return the version of a package or tool."""
    return load()["versions"][name]["version"]


class Pins(Extension):
    """Registers the functions of this module as globals."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        for function in (pinned_image, pinned_action, pinned_hook, pinned_version):
            environment.globals[function.__name__] = function
