"""Carry what a project has over to a release that renamed it (`_migrations` in copier.yml; releases.toml says what).

Copier merges the difference between its rendering of the old release and the project into the new release, file by
file, by name. So a change has to be made in both before Copier compares them: in the project's index and working tree,
and in the rendering, which lies in a temporary folder. Then a renamed file is merged like any other, and one that its
owner deleted stays deleted.

Nothing is done twice, and nothing to a file or key that is not there (any more).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("releases.toml")

# Copier's name for the folder with its rendering of the old release.
RENDERINGS = "copier*.old_copy.*"

# What `git status` calls files that a merge could not decide.
CONFLICTS = ("DD", "AU", "UD", "UA", "DU", "AA", "UU")


class Problem(Exception):
    """Why a migration cannot be made; the text says what to do."""


@dataclass(frozen=True)
class Setting:
    """A key in YAML that has another place: dotted paths in each of the files."""

    files: tuple[str, ...]
    old: tuple[str, ...]
    new: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """What one release took from its place; see releases.toml."""

    moved: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    handed_over: Mapping[str, str] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Whether there is something to do in a project."""
        return bool(self.moved or self.answers or self.settings)


def releases(table: Path = TABLE) -> dict[str, Release]:
    """Read the table. A misspelt key is a TypeError."""
    entries = tomllib.loads(table.read_text(encoding="utf-8"))
    return {version: _release(**entry) for version, entry in entries.items()}


def _release(settings: list[dict[str, Any]] | None = None, **entry: Any) -> Release:  # noqa: ANN401
    return Release(settings=tuple(_setting(each) for each in settings or ()), **entry)


def _setting(entry: dict[str, Any]) -> Setting:
    old, new = (tuple(entry.pop(name).split(".")) for name in ("from", "to"))
    return Setting(files=tuple(entry.pop("files")), old=old, new=new, **entry)


def say(sentence: str) -> None:
    """Tell the person who updates."""
    print(f"    {sentence}", file=sys.stderr)


@dataclass(frozen=True)
class Project:
    """The project that is being updated: its folder, which is a repository's root, and its answers file."""

    folder: Path
    answers_file: Path

    def git(self, *arguments: str) -> str:
        """Run Git in the project's folder and return what it printed."""
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def tracks(self, path: str) -> bool:
        """Whether Git has the file, or files in the folder."""
        return bool(self.git("ls-files", "-z", "--", path)) and (self.folder / path).exists()

    def renderings(self) -> list[Path]:
        """Find the folder with Copier's rendering of the old release.

        Copier does not say where it is. It was made from this project's answers, and Git comes into it later. An update
        of a second project with the same answers may run beside this one: it goes through the same migration.
        """
        # Here and not above: it is not needed after the merge, and this program starts twice at each update.
        import tempfile

        return [place for place in Path(tempfile.gettempdir()).glob(RENDERINGS) if self._is_ours(place)]

    def _is_ours(self, rendering: Path) -> bool:
        """Whether a rendering was made from the same answers to the same release; ours may hold more questions."""
        ours, others = self.folder / self.answers_file, rendering / self.answers_file
        try:
            if (rendering / ".git").exists():
                return False
            if ours.read_bytes() == others.read_bytes():
                return True
            known, found = _answers(ours), _answers(others)
        except OSError:
            # There is no such file (any more), or it is another user's.
            return False
        return bool(found.get("_commit")) and all(known.get(name, value) == value for name, value in found.items())


def _answers(path: Path) -> dict[str, Any]:
    """Read an answers file; empty when it is something else."""
    # As above: it is half of the time that starting takes.
    import yaml

    try:
        answers = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return {}
    return answers if isinstance(answers, dict) else {}


def move(project: Project, renderings: list[Path], old: str, new: str) -> None:
    """Move a file or folder, in the project if it is still there, and in the renderings."""
    if (project.folder / new).exists():
        if project.tracks(old):
            say(f"{new} is there already, so {old} is not moved: what you changed in it is in Git's history")
        return
    if project.tracks(old):
        if not renderings:
            say(
                f"Copier's rendering of the old release was not found: what you changed in {new} may show as a conflict"
            )
        (project.folder / new).parent.mkdir(parents=True, exist_ok=True)
        project.git("mv", "--", old, new)
        say(f"{old} is now {new}")
    for rendering in renderings:
        if (rendering / old).exists() and not (rendering / new).exists():
            (rendering / new).parent.mkdir(parents=True, exist_ok=True)
            (rendering / old).rename(rendering / new)


def rename_answer(project: Project, old: str, new: str) -> None:
    """Give a recorded answer its question's new name."""
    path = project.folder / project.answers_file
    text = path.read_bytes()
    if re.search(rf"^{new}:".encode(), text, re.MULTILINE):
        return
    renamed = re.sub(rf"^{old}:".encode(), f"{new}:".encode(), text, count=1, flags=re.MULTILINE)
    if renamed != text:
        path.write_bytes(renamed)
        say(f"the answer {old} is now called {new}")


def move_setting(project: Project, renderings: list[Path], setting: Setting) -> None:
    """Move a key in the project's files and in the renderings, with its value and comments."""
    for pattern in setting.files:
        for path in sorted(project.folder.glob(pattern)):
            name = path.relative_to(project.folder).as_posix()
            try:
                moved = move_key(path, setting.old, setting.new)
            except ValueError as error:
                say(f"{name}: rename {'.'.join(setting.old)} to {'.'.join(setting.new)} yourself, {error}")
                continue
            if moved:
                if project.tracks(name):
                    project.git("add", "--", name)
                say(f"{name}: {'.'.join(setting.old)} is now {'.'.join(setting.new)}")
        for path in (file for rendering in renderings for file in rendering.glob(pattern)):
            move_key(path, setting.old, setting.new)


def move_key(path: Path, old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    """Move a key inside a YAML file; return whether it was there.

    Raises:
        ValueError: The file cannot be read as YAML; the text says why.
        Problem: ruamel.yaml is missing.
    """
    text = path.read_bytes().decode("utf-8")
    if text.startswith("$ANSIBLE_VAULT"):
        raise ValueError("if it is there: the file is encrypted")
    # Without the key nothing has to be parsed, and nothing to be installed.
    if not re.search(rf"\b{re.escape(old[-1])}\b", text):
        return False
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
        from ruamel.yaml.util import load_yaml_guess_indent
    except ImportError:
        raise Problem(
            f"{path.name} holds the setting {'.'.join(old)}, which this release renames. To edit YAML without losing "
            "your comments, Copier needs ruamel.yaml beside it.\n"
            "Install it (pipx inject copier ruamel.yaml, or uvx --with ruamel.yaml …), then update again. "
            "Nothing was changed."
        ) from None
    reader = YAML()
    reader.preserve_quotes = True
    try:
        data, indent, offset = load_yaml_guess_indent(text, yaml=reader)
    except YAMLError as error:
        raise ValueError(f"since the file is not valid YAML ({str(error).splitlines()[0]})") from None
    if not _move_in(data, old, new):
        return False
    writer = YAML()
    writer.preserve_quotes = True
    writer.width = 4096
    writer.explicit_start = text.lstrip().startswith("---")
    writer.indent(mapping=indent or 2, sequence=indent or 2, offset=offset or 0)
    writer.line_break = "\r\n" if "\r\n" in text else "\n"  # type: ignore[assignment]
    output = io.StringIO(newline="")
    writer.dump(data, output)
    path.write_bytes(output.getvalue().encode("utf-8"))
    return True


def _move_in(data: Any, old: tuple[str, ...], new: tuple[str, ...]) -> bool:  # noqa: ANN401
    """Move a key of a map that ruamel.yaml read. A new key that is there already wins, and the old one stays."""
    source: Any = _at(data, old[:-1])
    if source is None or old[-1] not in source:
        return False
    target = source if old[:-1] == new[:-1] else data
    for name in new[:-1] if target is not source else ():
        target = target.setdefault(name, type(data)())
    if new[-1] in target:
        return False
    position = list(source).index(old[-1]) if target is source else len(target)
    comment = source.ca.items.pop(old[-1], None)
    target.insert(position, new[-1], source.pop(old[-1]))
    if comment:
        target.ca.items[new[-1]] = comment
        if target is source and comment[2]:
            # As far behind the value as it was.
            comment[2].start_mark.column += len(new[-1]) - len(old[-1])
    return True


def _at(data: Any, path: tuple[str, ...]) -> MutableMapping[str, Any] | None:  # noqa: ANN401
    """Return the map at a path, if there is one."""
    for name in path:
        data = data.get(name) if isinstance(data, MutableMapping) else None
    return data if isinstance(data, MutableMapping) else None


def migrate(project: Project, release: Release) -> None:
    """Do everything that a release asks for. What may be refused comes first: a refusal then leaves all as it was."""
    renderings = project.renderings()
    for setting in release.settings:
        move_setting(project, renderings, setting)
    for old, new in release.moved.items():
        move(project, renderings, old, new)
    for old, new in release.answers.items():
        rename_answer(project, old, new)


def unstage(project: Project, release: Release) -> None:
    """Take out of the index what `migrate` put in, so that it holds no more than Copier leaves there.

    Renovate, for one, takes over what is not staged, and would leave a renamed file behind. What conflicts stays
    marked.
    """
    paths = [path for names in release.moved.items() for path in names]
    paths += [pattern for setting in release.settings for pattern in setting.files]
    entries = project.git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--", *paths).split(
        "\0"
    )
    # Two letters, of the index and of the working tree, and the path.
    if staged := sorted(entry[3:] for entry in entries if entry[:1] in tuple("AMDT") and entry[:2] not in CONFLICTS):
        project.git("reset", "--quiet", "--", *staged)


def main() -> int:
    """Migrate the project in the current folder: `migrate.py RELEASE before|after ANSWERS_FILE`, as copier.yml says."""
    version, stage, answers_file = sys.argv[1:]
    project, release = Project(Path.cwd(), Path(answers_file)), releases()[version]
    try:
        if stage == "before":
            migrate(project, release)
        else:
            unstage(project, release)
    except Problem as problem:
        print(f"\n{version}: {problem}\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
