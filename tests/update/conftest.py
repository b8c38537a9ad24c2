"""Old projects, each rendered once, and a Copier that clones a release of the template once."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import copier._main
import copier._template
import copier._vcs
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
    """Spare Copier what is the same at each update; test_update_check.py updates without these short cuts.

    Those are: clones of the template's releases, compiled templates, what a release makes of the same answers in an
    empty folder (an update needs that of the old release and of the new one), and a question to Git for each file that
    matters on Windows only.
    """
    clone, environment = copier._vcs.clone, vars(copier._main)["SandboxedEnvironment"]
    run_copy = copier._main.Worker.run_copy
    compiled = Compiled()

    class Environment(environment):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(*arguments, **options, bytecode_cache=compiled)

    def clone_once(url: str, ref: str = "HEAD", location: str | None = None) -> str:  # noqa: ARG001
        return str(shared(f"clones/{key(url, ref)}", lambda folder: clone(url, ref, str(folder))))

    def copy_once(worker: copier._main.Worker) -> None:
        destination = Path(worker.dst_path)
        if not re.search(r"\.(old|new)_copy\.", str(destination)):
            run_copy(worker)
            return

        def render(folder: Path) -> None:
            run_copy(replace(worker, dst_path=folder))

        name = key(worker.src_path, worker.vcs_ref, worker.exclude, sorted(worker.data.items()))
        shutil.copytree(shared(f"renderings/{name}", render), destination, symlinks=True, dirs_exist_ok=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copier._template, "clone", clone_once)
        patch.setattr(copier._main, "SandboxedEnvironment", Environment)
        patch.setattr(copier._main.Worker, "run_copy", copy_once)
        patch.setattr(copier._main.Worker, "_sync_git_index_executable_bit", lambda *_: None)
        yield


def key(*parts: object) -> str:
    """Name a folder for what it depends on."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


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
