"""The page shows a comparison completely, by itself, and to the keyboard, at any width."""

from __future__ import annotations

import fcntl
import json
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import tooling
from tests.review import colours, page
from tests.review.comparison import Change, Comparison, Hunk, Line, Totals
from tests.review.revisions import Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# renovate: datasource=npm depName=playwright-core
PLAYWRIGHT = "1.65.1"
# renovate: datasource=npm depName=@sparticuz/chromium
CHROMIUM = "153.0.0"

BASE, HEAD = Revision("v1.0.0"), Revision("working tree")
PROFILES = ("one", "two", "three")
LONG = "a line that is much too long for a narrow window, " * 8 + "x" * 300


def hunk(*lines: str, profiles: tuple[str, ...] = PROFILES, variant_of: tuple[str, ...] = ()) -> Hunk:
    """Make a hunk of lines that begin with their kind."""
    old = new = 0
    made = []
    for line in lines:
        old, new = old + (line[0] != "+"), new + (line[0] != "-")
        made.append(Line(line[0], line[1:], old if line[0] != "+" else None, new if line[0] != "-" else None))
    return Hunk(tuple(made), profiles, variant_of)


def change(path: str, *hunks: Hunk, status: str = "changed", old: str = "") -> Change:
    """Make a change of a file in all profiles that its hunks name."""
    profiles = tuple(name for name in PROFILES if any(name in hunk.profiles for hunk in hunks))
    return Change(status, old or path, path, hunks, profiles, (0o100644, 0o100644))


def compared(*changes: Change) -> Comparison:
    """Make a comparison in which each profile has the same totals."""
    return Comparison(PROFILES, changes, dict.fromkeys(PROFILES, Totals(len(changes), 1, 1)))


SMALL = compared(
    change(
        "infra/bin/deploy",
        hunk(" before", "-port=80", "-gone", "+port=8080", "+" + LONG, " after"),
        hunk(" before", "-x", "+y", profiles=("two",)),
    ),
    change(
        "new.md",
        hunk("+# New", "+text"),
        hunk(" # New", "-text", "+other", profiles=("one",), variant_of=("two",)),
        status="added",
    ),
    change("infra/moved", hunk(" same", "-a", "+b", profiles=("three",)), status="renamed", old="infra/from"),
)


def write(comparison: Comparison) -> str:
    """Write the page of a comparison."""
    return page.write(BASE, HEAD, comparison, [])


def test_what_was_rendered_is_text_and_nothing_else() -> None:
    hostile = "</div></script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;"
    text = write(compared(change(f"{hostile}.md", hunk(f"-{hostile}", f"+{hostile} more"))))
    assert len(re.findall(r"<script", text)) == 1
    assert "<img" not in text
    assert "&amp;amp;" in text


def test_it_needs_no_network() -> None:
    text = write(SMALL)
    assert "default-src 'none'" in text
    assert not re.search(r"""\b(src|href)=["'](?!#)""", text)
    assert not re.search(r"url\(|@import", text)


def test_every_line_stands_on_its_side_with_its_number() -> None:
    text = write(SMALL)
    rows = re.findall(r'<div class="row (.*?)" data-n="(\d+)">(.*?)</div>', text)
    sides = [(side, number, re.sub(r"<[^>]+>", "", html)) for side, number, html in rows]
    assert sides[:8] == [
        ("c o", "1", "before"),
        ("c n", "1", "before"),
        ("o", "2", "port=80"),
        ("o", "3", "gone"),
        ("n", "2", "port=8080"),
        ("n", "3", LONG),
        ("c o", "4", "after"),
        ("c n", "4", "after"),
    ]


def test_only_the_words_that_changed_are_marked() -> None:
    old, new = colours.lines_as_html("x.env", hunk("-port=80 # here", "+port=8080 # here").lines)
    assert re.findall(r"<mark>(.*?)</mark>", re.sub(r"</?span[^>]*>", "", old)) == ["80"]
    assert re.findall(r"<mark>(.*?)</mark>", re.sub(r"</?span[^>]*>", "", new)) == ["8080"]
    # Two texts that have nothing in common would be marked from end to end.
    assert "<mark>" not in "".join(colours.lines_as_html("x", hunk("-alpha beta gamma", "+1 2 3 4").lines))


def test_marks_follow_words_over_the_ends_of_lines() -> None:
    old, new = colours.changed_words(["one two", "three"], ["one", "two", "three four"])
    assert (old, new) == ([[(3, 4)], []], [[], [], [(5, 10)]])


def test_syntax_is_coloured_by_what_a_file_is() -> None:
    assert '<span class="nb">echo</span>' in colours.lines_as_html("infra/bin/deploy", hunk("+echo x").lines)[0]
    assert '<span class="nt">a</span>' in colours.lines_as_html("x.yml", hunk("+a: 1").lines)[0]
    # An unknown kind, an odd byte and a quotation that never ends are shown as they are.
    for line in ("a < b && c", 'say "hello', "carriage\rreturn"):
        [html] = colours.lines_as_html("x.unknown", hunk(f"+{line}").lines)
        assert html == line.replace("&", "&amp;").replace("<", "&lt;").replace("\r", "␍")


def test_the_tree_joins_folders_that_hold_only_a_folder() -> None:
    changes = tuple(change(path, hunk("+x")) for path in ("a", "b/c/d/e", "b/c/d/f", "g/h", "g/i/j"))
    root = page.tree(changes)
    assert root.files == [0]
    assert list(root.folders) == ["b/c/d", "g"]
    assert (root.folders["b/c/d"].files, len(root.folders["g"]), len(root)) == ([1, 2], 2, 5)


# ----- In a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Visit a page: `browse(COMPARISON, STEPS, width=…, scheme=…)`."""
    tooling.require("node", version="20")
    npm = tooling.require("npm")
    folder = tooling.REPO / ".cache" / "browser"
    installed = next(filter(None, map(tooling.find, ("chromium", "chromium-browser", "google-chrome"))), None)
    if installed is None and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        tooling.unavailable("there is no Chromium here, and npm has none for this system")
    command: list[str | Path] = ["node", Path(__file__).parent / "browse.mjs", folder, *filter(None, [installed])]
    # The package is made for a service whose name it looks for: then it brings along the libraries that it needs.
    # And it looks for its font at places of that service: without one nothing has a width, not even what is typed.
    fonts = {"FONTCONFIG_FILE": str(folder / "fonts.conf")}
    variables = {"TMPDIR": str(folder), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x", **fonts} if not installed else {}
    packages = [f"playwright-core@{PLAYWRIGHT}", *([] if installed else [f"@sparticuz/chromium@{CHROMIUM}"])]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        places = f"<dir>{folder}/fonts</dir><cachedir>{folder}/fonts-cache</cachedir>"
        (folder / "fonts.conf").write_text(f"<fontconfig>{places}</fontconfig>\n", encoding="utf-8")
        made = folder / "packages"
        if not made.exists() or made.read_text(encoding="utf-8") != " ".join(packages):
            (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            # An older browser that was unpacked would be taken for this one.
            (folder / "chromium").unlink(missing_ok=True)
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error"]
            result = tooling.run([npm, "install", *options, *packages], cwd=folder, check=False)
            if result.returncode != 0:
                tooling.unavailable(f"npm cannot install {' and '.join(packages)}: {result.stderr.strip()[-300:]}")
            # It is unpacked at the first start, which is not for two at once.
            result = tooling.run(command, input="[]", env=variables, check=False)
            if result.returncode != 0:
                tooling.unavailable(f"Chromium does not start: {result.stderr.strip()[-600:]}")
            made.write_text(" ".join(packages), encoding="utf-8")

    def visit(
        comparison: Comparison, steps: Sequence[dict[str, object]], *, width: int = 1440, scheme: str = "light"
    ) -> dict[str, Any]:
        file = tmp_path_factory.mktemp("page") / "diff.html"
        file.write_text(write(comparison), encoding="utf-8")
        visits = [{"page": str(file), "width": width, "scheme": scheme, "steps": list(steps)}]
        result = tooling.run(command, input=json.dumps(visits), env=variables)
        [told] = json.loads(result.stdout)
        assert told["errors"] == []
        assert told["requests"] == [file.as_uri()]
        return dict(told)

    return visit


def ask(expression: str) -> dict[str, object]:
    return {"ask": expression}


WHERE = ask(
    "document.activeElement.closest('.file')?.dataset.number + (document.activeElement.closest('.hunk') ? 'h' : '')"
)
OPEN = ask("[...document.querySelectorAll('.file')].map((file) => file.open)")
FILES = ask("[...document.querySelectorAll('.file')].filter((file) => !file.hidden).map((file) => file.dataset.number)")
HUNKS = ask("[...document.querySelectorAll('.file:not([hidden]) .hunk:not([hidden])')].length")
# How far the window, or a line that nobody could read to its end, is too wide.
OVERFLOW = ask(
    "Math.max(...[document.documentElement, ...document.querySelectorAll('.row')].map("
    "(e) => e.checkVisibility() ? e.scrollWidth - e.clientWidth : 0))"
)
# The place of the first removed line and of the first added one: left, and top against the other.
SIDES = ask(
    "(() => { const place = (selector) => document.querySelector(selector).getBoundingClientRect();"
    " const [o, n] = [place('.row.o:not(.c)'), place('.row.n:not(.c)')];"
    " return { apart: n.left > o.left, level: n.top === o.top }; })()"
)


def test_the_keyboard_reaches_everything(browse: Callable[..., dict[str, Any]]) -> None:
    press = [{"press": key} for key in ("e", "j", "j", "k", "Enter")]
    told = browse(
        SMALL,
        [
            *(OPEN, press[0], OPEN),
            *(press[1], WHERE, press[2], WHERE, press[3], WHERE),
            *(
                press[4],
                OPEN,
                {"press": "n"},
                WHERE,
                {"press": "n"},
                {"press": "n"},
                WHERE,
                OPEN,
                {"press": "p"},
                WHERE,
            ),
            *({"press": "/"}, {"type": "renamed"}, FILES, {"press": "Escape"}),
            *({"press": "?"}, ask("document.querySelector('dialog').open"), {"press": "Escape"}),
            *({"press": "t"}, {"press": "t"}, ask("getComputedStyle(document.body).backgroundColor")),
        ],
    )
    few, folded, *where = told["answers"]
    assert (few, folded) == ([True] * 3, [False] * 3)
    assert where[:3] == ["0", "1", "0"]
    assert where[3] == [True, False, False]
    assert where[4:6] == ["0h", "1h"]
    assert where[6] == [True, True, False]
    assert where[7] == "0h"
    assert where[8:] == [["2"], True, "rgb(13, 17, 23)"]


def test_a_profile_is_shown_alone(browse: Callable[..., dict[str, Any]]) -> None:
    told = browse(
        SMALL, [HUNKS, {"select": ["#profile", "2"]}, FILES, HUNKS, {"select": ["#profile", "0"]}, FILES, HUNKS]
    )
    # Profile "three" has neither the hunk of "two" nor the variant of "one"; the variant is read beside the whole file.
    assert told["answers"] == [5, ["0", "1", "2"], 3, ["0", "1"], 3]


def test_both_sides_are_level_and_one_column_is_enough_for_a_narrow_window(
    browse: Callable[..., dict[str, Any]],
) -> None:
    wide = browse(SMALL, [SIDES, OVERFLOW, {"press": "u"}, SIDES])["answers"]
    assert wide == [{"apart": True, "level": True}, 0, {"apart": False, "level": False}]
    narrow = browse(SMALL, [SIDES, OVERFLOW, ask("document.querySelector('.row.c.o').checkVisibility()")], width=360)
    assert narrow["answers"] == [{"apart": False, "level": False}, 0, False]


def test_it_follows_the_system_in_light_and_dark(browse: Callable[..., dict[str, Any]]) -> None:
    colour = ask("[document.body, document.querySelector('.row.n')].map((e) => getComputedStyle(e).backgroundColor)")
    light, dark = (browse(SMALL, [colour], scheme=scheme)["answers"][0] for scheme in ("light", "dark"))
    assert light == ["rgb(255, 255, 255)", "rgb(255, 255, 255)"]
    assert dark == ["rgb(13, 17, 23)", "rgb(13, 17, 23)"]


def test_no_colour_of_code_is_taken_for_a_part_of_the_page(browse: Callable[..., dict[str, Any]]) -> None:
    # Pygments calls a plain value of YAML "l", and other things by as short names.
    odd = ask(
        "[...new Set([...document.querySelectorAll('.row span')].filter((e) => getComputedStyle(e).display !== 'inline'"
        " || getComputedStyle(e).position !== 'static' || getComputedStyle(e, '::before').content !== 'none')"
        ".map((e) => e.className))]"
    )
    told = browse(compared(change("x.yml", hunk("+a: plain", '+b: [1, "two"]  # three'))), [odd])
    assert told["answers"] == [[]]


def test_three_thousand_files_open_quickly_and_folded(browse: Callable[..., dict[str, Any]]) -> None:
    many = compared(*(change(f"folder-{n % 50}/file-{n}.yml", hunk(*["+key: value"] * 20)) for n in range(3000)))
    opened = ask("document.querySelectorAll('.file[open]').length")
    told = browse(many, [opened, {"press": "j"}, {"press": "Enter"}, opened])
    assert told["answers"] == [0, 1]
    # About 700 where nothing else runs.
    assert told["milliseconds"] < 10_000
