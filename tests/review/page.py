"""Writes a comparison as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tests.review import colours, text
from tests.review.comparison import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.review.comparison import Change, Comparison, Hunk
    from tests.review.revisions import Revision

HERE = Path(__file__).parent

# So much can be read without choosing; beyond, files are folded.
UNFOLDED_FILES = 12
UNFOLDED_LINES = 600


@dataclass
class Folder:
    """A folder in the tree beside the differences, with the numbers of the changes in it."""

    name: str
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files) + sum(map(len, self.folders.values()))


def tree(changes: tuple[Change, ...]) -> Folder:
    """Sort the changes into folders; one that holds nothing but a folder is joined with it."""
    root = Folder("")
    for number, change in enumerate(changes):
        here = root
        for part in change.path.split("/")[:-1]:
            here = here.folders.setdefault(part, Folder(part))
        here.files.append(number)

    def joined(folder: Folder) -> Folder:
        folder.folders = {inner.name: inner for inner in map(joined, folder.folders.values())}
        if folder.name and not folder.files and len(folder.folders) == 1:
            [inner] = folder.folders.values()
            return Folder(f"{folder.name}/{inner.name}", inner.folders, inner.files)
        return folder

    return joined(root)


def blocks(change: Change, hunk: Hunk) -> Iterator[Markup]:
    """Write a hunk's lines, in blocks between which both sides stand level."""
    # A new file has one side only.
    alone = change.status in {"added", "removed"} and not hunk.variant_of
    written = list(zip(hunk.lines, colours.lines_as_html(change.path, hunk.lines), strict=True))
    for unchanged, block in groupby(written, key=lambda pair: pair[0].kind == " "):
        lines = []
        for line, html in block:
            if unchanged:
                lines.append(f'<div class="row c o" data-n="{line.old}">{html}</div>')
                lines.append(f'<div class="row c n" data-n="{line.new}">{html}</div>')
            else:
                side, number = ("o", line.old) if line.kind == "-" else ("n", line.new)
                lines.append(f'<div class="row {side}" data-n="{number}">{html}</div>')
        yield Markup(f'<div class="block{" alone" if alone else ""}">{"".join(lines)}</div>')  # noqa: S704 - escaped in colours


def write(base: Revision, head: Revision, comparison: Comparison, notes: list[str]) -> str:
    """Return the page."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    positions = {name: position for position, name in enumerate(comparison.profiles)}
    lines = sum(len(hunk.lines) for change in comparison.changes for hunk in change.hunks)
    return environment.get_template("page.html.jinja").render(
        title=text.title(base, head),
        sentence=text.sentence(comparison),
        notes=notes,
        comparison=comparison,
        tree=tree(comparison.changes),
        unfolded=len(comparison.changes) <= UNFOLDED_FILES and lines <= UNFOLDED_LINES,
        blocks=blocks,
        names=lambda profiles: names(profiles, comparison.profiles),
        remark=lambda change, hunk: text.remark(change, hunk, comparison),
        positions=lambda profiles: " ".join(str(positions[name]) for name in profiles),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        syntax={
            "light": Markup(colours.style(".row", colours.LIGHT)),  # noqa: S704 - Pygments' own
            "dark": Markup(colours.style(".row", colours.DARK)),  # noqa: S704 - Pygments' own
        },
    )
