"""Renders every profile with the template as it was at a revision: its own questions, files and extensions."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import TimeoutError, get_context  # noqa: A004 - it is not the builtin one
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pygit2
import yaml
from pygit2.enums import CheckoutStrategy

from migrations import migrate
from tests import golden, rendering
from tests.update import releases

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKING_TREE = "working tree"

PATIENCE = 300
"""Seconds that a profile may take, those before it in the queue included."""

# Copier has no type of its own for an answer that a question refuses.
_REFUSED = re.compile(r"(?:Invalid choice for|Validation error for question) '(?P<question>\w+)'")


class ReviewError(Exception):
    """What a person can mend; the text says how."""


@dataclass(frozen=True)
class Revision:
    """A state of the template: a commit, or the working tree when there is none."""

    name: str
    commit: str | None = None


@dataclass(frozen=True)
class Project:
    """A rendered profile."""

    folder: Path
    without: Mapping[str, Any]
    """Answers of the profile that the revision did not know, or refused."""


def resolve(text: str, root: Path = rendering.ROOT) -> Revision:
    """Find what Git calls `text`, or the release of that version: a clone may come without tags.

    Raises:
        ReviewError: There is no such revision.
    """
    known = releases.releases(root=root)
    repository = pygit2.Repository(str(root))
    try:
        commit = repository.revparse_single(known.get(text, text)).peel(pygit2.Commit)
    except (KeyError, ValueError, pygit2.GitError):
        message = f"unknown revision {text!r}: name a commit, branch, tag or release ({', '.join(known)})"
        if repository.is_shallow:
            message += "; this clone is shallow: git fetch --unshallow brings the others"
        raise ReviewError(message) from None
    versions = {commit: version for version, commit in known.items()}
    # A release goes by its version, whatever it was found by; what means another commit tomorrow, by its hash.
    passing = re.fullmatch(r"[0-9a-f]{7,40}|(HEAD|@).*|.*[~^@].*", text)
    return Revision(versions.get(str(commit.id), str(commit.id)[:12] if passing else text), str(commit.id))


def newest_release(head: Revision, root: Path = rendering.ROOT) -> Revision:
    """Return the last release before `head`."""
    found = releases.releases(head.commit or "HEAD", root=root)
    earlier = [Revision(version, commit) for version, commit in found.items() if commit != head.commit]
    if not earlier:
        message = f"there is no release before {head.name}: say what to compare with, as in BASE=HEAD~1"
        raise ReviewError(message)
    return earlier[-1]


def template(revision: Revision, destination: Path, root: Path = rendering.ROOT) -> Path:
    """Put the template of a revision into a folder without Git.

    Raises:
        ReviewError: The revision holds no template.
    """
    if revision.commit is None:
        return rendering.copy_template(destination, root)
    repository = pygit2.Repository(str(root))
    tree = repository[revision.commit].peel(pygit2.Commit).tree
    # Early releases have no migrations.
    paths = [name for name in rendering.TEMPLATE_PATHS if name in tree]
    if missing := [name for name in ("copier.yml", "extensions", "template") if name not in paths]:
        message = f"{revision.name} has no {', no '.join(missing)}: there is no template to render"
        raise ReviewError(message)
    destination.mkdir(parents=True)
    strategy = CheckoutStrategy.FORCE | CheckoutStrategy.DONT_UPDATE_INDEX
    repository.checkout_tree(  # type: ignore[no-untyped-call]
        tree, directory=str(destination), paths=paths, strategy=strategy
    )
    return destination


def render(source: Path, destination: Path, answers: Mapping[str, Any]) -> Project:
    """Render a profile as far as the template knows its answers.

    A choice that is not offered yet is left out like a question that is not asked yet: its default stands for it. A
    question that was renamed since is asked by the name that it had.
    """
    asked = yaml.safe_load((source / "copier.yml").read_text(encoding="utf-8"))
    renamed = {new: old for release in migrate.releases().values() for old, new in release.answers.items()}
    names = {name: name if name in asked else renamed.get(name, name) for name in answers}
    given = {names[name]: value for name, value in answers.items() if names[name] in asked}
    while True:
        try:
            rendering.render(source, destination, given)
        except ValueError as error:
            refused = _REFUSED.search(str(error))
            if not refused or refused["question"] not in given:
                raise
            del given[refused["question"]]
        else:
            break
    golden.forget_origin(destination)
    return Project(destination, {name: value for name, value in answers.items() if names[name] not in given})


def render_all(
    sources: Mapping[Revision, Path], folder: Path, profiles: Mapping[str, Mapping[str, Any]]
) -> dict[Revision, dict[str, Project]]:
    """Render every profile from each template, in `folder`.

    Each template has processes of its own, so that none meets the extensions that another one has loaded.

    Raises:
        ReviewError: A profile cannot be rendered.
    """
    workers = max(1, (os.cpu_count() or 1) // len(sources))
    with ExitStack() as stack:
        jobs = {}
        for number, (revision, source) in enumerate(sources.items()):
            # Its processes are ended with it, also when this one is interrupted.
            pool = stack.enter_context(get_context("spawn").Pool(workers, _begin, (str(folder),)))
            for name, answers in profiles.items():
                arguments = (source, folder / f"projects-{number}" / name, answers)
                jobs[revision, name] = pool.apply_async(_attempt, arguments)
        projects: dict[Revision, dict[str, Project]] = {revision: {} for revision in sources}
        for (revision, name), job in jobs.items():
            try:
                made = job.get(PATIENCE)
            except TimeoutError:
                made = f"it did not end within {PATIENCE} s"
            if isinstance(made, str):
                message = f"the template of {revision.name} cannot render the profile {name}: {made}"
                raise ReviewError(message)
            projects[revision][name] = made
    return projects


def _begin(folder: str) -> None:
    """Prepare a process that renders: Ctrl-C is its parent's business, and so is what it leaves behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tempfile.tempdir = folder


def _attempt(source: Path, destination: Path, answers: Mapping[str, Any]) -> Project | str:
    """Render, or say why not: not every exception of a template can travel between processes."""
    try:
        return render(source, destination, answers)
    except Exception as error:
        return str(error) or type(error).__name__
