"""Old projects, each rendered once, and a Copier that clones a release of the template once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import copier._main
import copier._template
import pytest
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket

from tests import profiles
from tests.update import releases

Shared = Callable[[str, Callable[[Path], object]], Path]


class Compiled(BytecodeCache):
    """Keeps compiled templates in memory: the same files are rendered hundreds of times."""

    def __init__(self) -> None:
        self._code: MutableMapping[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket if its template was compiled before; a changed source has another key."""
        if code := self._code.get(bucket.key + bucket.checksum):
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        self._code[bucket.key + bucket.checksum] = bucket.bytecode_to_string()


@pytest.fixture(scope="session")
def history(shared: Shared) -> Path:
    """The template with its releases as tags."""
    return shared("history", releases.clone)


@pytest.fixture(scope="session", autouse=True)
def _quick_copier(shared: Shared) -> Iterator[None]:
    """Spare Copier what is the same at each update: clones of the template's releases, and their compiled templates."""
    clone, environment = copier._template.clone, copier._main.SandboxedEnvironment
    compiled = Compiled()

    class Environment(environment):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **options, bytecode_cache=compiled)

    def clone_once(url: str, ref: str = "HEAD", location: str | None = None) -> str:  # noqa: ARG001
        name = "".join(letter if letter.isalnum() else "-" for letter in f"{url}-{ref}")
        return str(shared(f"clones/{name}", lambda folder: clone(url, ref, str(folder))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copier._template, "clone", clone_once)
        patch.setattr(copier._main, "SandboxedEnvironment", Environment)
        yield


@pytest.fixture(scope="session")
def generated(history: Path, shared: Shared) -> Callable[[str, str], Path]:
    """What a release makes of a profile: `generated(VERSION, PROFILE)`. Shared: copy it before you change it."""

    def folder(version: str, profile: str) -> Path:
        answers = profiles.PROFILES[profile]
        return shared(f"generated/{version}/{profile}", lambda path: releases.generate(history, version, path, answers))

    return folder


@pytest.fixture
def start(generated: Callable[[str, str], Path], tmp_path: Path) -> Callable[[str, str], Path]:
    """A project of its own, committed: `start(VERSION, PROFILE)`."""

    def project(version: str, profile: str) -> Path:
        folder = tmp_path / "project"
        shutil.copytree(generated(version, profile), folder)
        return releases.begin(folder, f"Slipway {version}")

    return project
