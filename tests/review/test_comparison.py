"""What differs is found as Git finds it, and told once for all profiles that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.review import comparison, text
from tests.review.revisions import Revision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.review.comparison import Comparison

    Trees = Mapping[str, Mapping[str, str]]

BASE, HEAD = Revision("v1.0.0"), Revision("v2.0.0")
NUMBERED = "".join(f"line {number}\n" for number in range(1, 31))


@pytest.fixture
def compare(tmp_path: Path) -> Callable[[Trees, Trees], Comparison]:
    """Compare trees, each given as {profile: {path: content}}."""

    def compared(before: Trees, after: Trees) -> Comparison:
        folders: list[dict[str, Path]] = []
        for side, trees in (("before", before), ("after", after)):
            folders.append({profile: tmp_path / side / profile for profile in trees})
            for profile, files in trees.items():
                (tmp_path / side / profile).mkdir(parents=True)
                for path, content in files.items():
                    file = tmp_path / side / profile / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(content, encoding="utf-8", newline="")
        return comparison.compare(*folders)

    return compared


def test_what_profiles_share_is_told_once(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare(
        {name: {"a": "old\n"} for name in ("one", "two", "three")},
        {"one": {"a": "new\n"}, "two": {"a": "new\n"}, "three": {"a": "old\n"}},
    )
    [change] = found.changes
    assert change.profiles == ("one", "two")
    assert [hunk.profiles for hunk in change.hunks] == [("one", "two")]
    assert (found.count("+"), found.count("-")) == (1, 1)
    assert found.concerned() == ["one", "two"]
    assert found.totals["three"].files == 0


def test_a_hunk_is_shared_though_the_rest_of_the_file_is_not(compare: Callable[[Trees, Trees], Comparison]) -> None:
    # Profile "two" has a first line of its own, so that all its numbers are others; and only it changes at the end.
    found = compare(
        {"one": {"a": NUMBERED}, "two": {"a": "mine\n" + NUMBERED}},
        {
            "one": {"a": NUMBERED.replace("line 9\n", "nine\n")},
            "two": {"a": "mine\n" + NUMBERED.replace("line 9\n", "nine\n").replace("line 30\n", "thirty\n")},
        },
    )
    [change] = found.changes
    assert [hunk.profiles for hunk in change.hunks] == [("one", "two"), ("two",)]
    first = change.hunks[0]
    assert first.header == "-6,7 +6,7"
    assert [(line.kind, line.text, line.old, line.new) for line in first.lines[3:5]] == [
        ("-", "line 9", 9, None),
        ("+", "nine", None, 9),
    ]


def test_the_same_change_in_other_surroundings_is_told_apart(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare(
        {"one": {"a": "x\nold\n"}, "two": {"a": "y\nold\n"}}, {"one": {"a": "x\nnew\n"}, "two": {"a": "y\nnew\n"}}
    )
    assert [hunk.profiles for hunk in found.changes[0].hunks] == [("one",), ("two",)]


def test_a_renamed_file_is_one_change_with_both_names(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare(
        {"one": {"old/name": NUMBERED, "same": "x\n"}},
        {"one": {"new/name": NUMBERED.replace("line 9\n", "nine\n"), "same": "x\n"}},
    )
    [change] = found.changes
    assert (change.status, change.old, change.new) == ("renamed", "old/name", "new/name")
    assert (change.count("+"), change.count("-")) == (1, 1)


def test_an_added_file_is_shown_whole_once_and_its_variants_by_their_difference(
    compare: Callable[[Trees, Trees], Comparison],
) -> None:
    other = NUMBERED.replace("line 9\n", "nine\n")
    found = compare(
        {"one": {}, "two": {}, "three": {}}, {"one": {"a": other}, "two": {"a": NUMBERED}, "three": {"a": NUMBERED}}
    )
    [change] = found.changes
    whole, variant = change.hunks
    assert (whole.profiles, len(whole.lines), whole.variant_of) == (("two", "three"), 30, ())
    assert (variant.profiles, variant.variant_of) == (("one",), ("two", "three"))
    assert [line.text for line in variant.lines if line.kind != " "] == ["line 9", "nine"]
    # In no profile was anything removed.
    assert (change.count("+"), change.count("-")) == (31, 0)


def test_a_removed_file_is_shown_once_whatever_it_held(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare(
        {"one": {"a": "x\n"}, "two": {"a": "y\n"}, "three": {"a": "y\n"}}, {"one": {}, "two": {}, "three": {}}
    )
    [change] = found.changes
    assert change.status == "removed"
    assert [(sorted(hunk.profiles), hunk.lines[0].text) for hunk in change.hunks] == [(["one", "three", "two"], "y")]


def test_a_file_may_be_added_here_and_changed_there(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare({"one": {}, "two": {"a": "x\n"}}, {"one": {"a": "y\n"}, "two": {"a": "y\n"}})
    assert [(change.status, change.profiles) for change in found.changes] == [
        ("added", ("one",)),
        ("changed", ("two",)),
    ]
    assert found.statuses() == {"added": 1, "changed": 1}


def test_what_is_no_line_is_told_too(compare: Callable[[Trees, Trees], Comparison], tmp_path: Path) -> None:
    compare(
        {"one": {"bin": "#!/bin/sh\n", "end": "x\n", "image": "\0a"}},
        {"one": {"bin": "#!/bin/sh\n", "end": "x", "image": "\0b"}},
    )
    (tmp_path / "after" / "one" / "bin").chmod(0o755)
    found = comparison.compare({"one": tmp_path / "before" / "one"}, {"one": tmp_path / "after" / "one"})
    program, end, image = found.changes
    assert program.notes == ["mode 100644 → 100755"]
    assert [line.text for line in end.hunks[0].lines] == ["x", "x  (no line feed at the end)"]
    assert (image.notes, image.hunks) == (["binary"], ())


def test_files_of_a_folder_stay_together(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare({"one": {}}, {"one": dict.fromkeys(["b/z/1", "b/a", "a-b", "b-c/d", "b/z/0"], "x\n")})
    assert [change.path for change in found.changes] == ["a-b", "b/a", "b/z/0", "b/z/1", "b-c/d"]


@pytest.mark.parametrize(
    ("chosen", "told"),
    [("abcde", "all 5 profiles"), ("abcd", "all profiles but e"), ("ab", "a, b"), ("a", "a")],
)
def test_profiles_are_named_in_as_few_words_as_possible(chosen: str, told: str) -> None:
    assert comparison.names(chosen, "abcde") == told


def test_the_terminal_says_first_how_much_it_is(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare(
        {"one": {"a": "old\n", "same": "x\n"}, "two": {"a": "old\n"}, "three": {}},
        {"one": {"a": "new\n", "same": "x\n"}, "two": {"a": "newer\n"}, "three": {}},
    )
    assert text.terminal(BASE, HEAD, found, ["A note."], colour=False).splitlines() == [
        "v1.0.0 → v2.0.0: 1 file (1 changed), +2 −2 lines, in 2 of 3 profiles. What profiles share counts once.",
        "A note.",
        "",
        "  changed  a  +2 −2  all profiles but three",
        "",
        "changed: a, in all profiles but three",
        "--- a/a",
        "+++ b/a",
        "@@ -1,1 +1,1 @@ one",
        "-old",
        "+new",
        "@@ -1,1 +1,1 @@ two",
        "-old",
        "+newer",
    ]
    assert "\x1b[" not in text.terminal(BASE, HEAD, found, [], colour=False)
    assert "\x1b[" in text.terminal(BASE, HEAD, found, [], colour=True)


def test_nothing_is_said_in_one_line(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare({"one": {"a": "x\n"}}, {"one": {"a": "x\n"}})
    assert text.terminal(BASE, HEAD, found, [], colour=False) == "v1.0.0 → v2.0.0: No difference in 1 profile.\n"
    assert text.markdown(BASE, HEAD, found, []).endswith("\n\nv1.0.0 → v2.0.0: No difference in 1 profile.\n")


def test_a_comment_has_its_limit_and_says_what_is_missing(compare: Callable[[Trees, Trees], Comparison]) -> None:
    found = compare({"one": {}}, {"one": {f"file-{number}": NUMBERED * 3 for number in range(60)}})
    told = text.markdown(BASE, HEAD, found, [], limit=12_000)
    assert len(told) <= 12_000
    assert told.count("| added |") == 60
    shown = told.count("<details>")
    assert 0 < shown < 60
    assert f"{60 - shown} diffs had no room here: the page shows all of them." in told


def test_a_file_of_many_lines_is_cut_in_a_comment(compare: Callable[[Trees, Trees], Comparison]) -> None:
    told = text.markdown(BASE, HEAD, compare({"one": {}}, {"one": {"a": NUMBERED * 10}}), [])
    assert "\n… 203 lines more in the page\n```\n" in told


def test_code_cannot_leave_its_fence_nor_a_name_its_cell(compare: Callable[[Trees, Trees], Comparison]) -> None:
    name = "a|b`<b>_c_"
    told = text.markdown(BASE, HEAD, compare({"one": {}}, {"one": {name: "```\n````\n</details>\n"}}), [])
    assert "\n`````diff\n" in told
    assert "\n`````\n" in told
    assert name not in told.split("`````")[0]
    [row] = [line for line in told.splitlines() if line.startswith("| added")]
    assert row.count("|") == 5
