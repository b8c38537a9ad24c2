"""Migrations: what a release renamed goes along, whatever a project's owner did with it, and nothing is done twice."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from copier import run_recopy

from migrations import migrate
from tests import profiles, rendering
from tests.update import releases

OLD, NEW = "infra/server/modules.conf", "infra/server/modprobe.conf"
VARIABLES = "infra/ansible/group_vars/all/20-custom.yml"
Start = Callable[[str, str], Path]


@pytest.fixture
def project(start: Start) -> Path:
    """A project of the last release that had the old names."""
    return start("v0.4.0", "default")


def change(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    releases.commit(project, f"Change {file}")


@pytest.mark.parametrize("command", [releases.BY_HAND, releases.BY_RENOVATE], ids=["by hand", "by Renovate"])
class TestARenamedFile:
    """A generated file that has another name in the new release."""

    def test_keeps_what_was_changed_in_it(self, project: Path, command: tuple[str, ...]) -> None:
        change(project, OLD, "install udf /bin/false", "# udf: our backup disks")
        releases.update(project, command)
        assert not (project / OLD).exists()
        assert "# udf: our backup disks" in (project / NEW).read_text(encoding="utf-8")
        assert "<<<<<<<" not in (project / NEW).read_text(encoding="utf-8")

    def test_reaches_a_bot_which_reads_what_is_not_staged(self, project: Path, command: tuple[str, ...]) -> None:
        releases.update(project, command)
        status = subprocess.run(
            ["git", "-C", str(project), "status", "--porcelain"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        assert f" D {OLD}" in status
        assert f"?? {NEW}" in status

    def test_stays_gone_when_its_owner_deleted_it(self, project: Path, command: tuple[str, ...]) -> None:
        (project / OLD).unlink()
        releases.commit(project, "We load what we like")
        releases.update(project, command)
        assert not (project / OLD).exists()
        assert not (project / NEW).exists()

    def test_leaves_the_name_that_its_owner_gave_it(self, project: Path, command: tuple[str, ...]) -> None:
        (project / OLD).rename(project / "infra/server/blocked.conf")
        releases.commit(project, "A better name")
        before = (project / "infra/server/blocked.conf").read_bytes()
        releases.update(project, command)
        assert (project / "infra/server/blocked.conf").read_bytes() == before
        assert not (project / NEW).exists()


def test_a_file_of_the_owners_that_has_the_new_name_is_not_overwritten_without_a_conflict(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / NEW).write_text("options loop max_loop=64\n", encoding="utf-8")
    releases.commit(project, "Ours")
    releases.update(project)
    assert "options loop max_loop=64" in (project / NEW).read_text(encoding="utf-8")
    assert f"{NEW} is there already" in capfd.readouterr().err


def test_a_file_is_moved_even_if_the_rendering_is_not_found(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(migrate, "RENDERINGS", "named-differently-in-another-copier.*")
    mine = migrate.Project(project, Path(".copier-answers.yml"))
    migrate.migrate(mine, migrate.releases()["v0.5.0"])
    assert (project / NEW).exists()
    assert not (project / OLD).exists()
    assert "may show as a conflict" in capfd.readouterr().err


def test_the_rendering_is_known_by_its_answers_whatever_else_lies_there(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = (project / ".copier-answers.yml").read_text(encoding="utf-8")
    texts = {
        "same": text,
        "from-an-edited-file": text.replace("project_name: ", "project_name:   ") + "# by hand\n",
        "of-another-project": text.replace("project_name: ", "project_name: Another "),
        "of-another-release": re.sub("_commit: .*", "_commit: v0.0.1", text),
        "no-yaml": ": [",
        "nobodys": "",
    }
    for name, content in texts.items():
        folder = tmp_path / f"copier._main.old_copy.{name}"
        folder.mkdir()
        (folder / ".copier-answers.yml").write_text(content, encoding="utf-8")
    # What is not to be read is as another user's.
    (tmp_path / "copier._main.old_copy.unreadable/.copier-answers.yml").mkdir(parents=True)
    found = migrate.Project(project, Path(".copier-answers.yml")).renderings()
    assert {place.suffix for place in found} == {".same", ".from-an-edited-file"}


def test_migrating_again_changes_nothing(project: Path) -> None:
    mine = migrate.Project(project, Path(".copier-answers.yml"))
    for release in (migrate.releases()["v0.5.0"],) * 2:
        migrate.migrate(mine, release)
        state = rendering.contents(project), releases.git(project, "diff", "--cached")
    migrate.migrate(mine, migrate.releases()["v0.5.0"])
    assert (rendering.contents(project), releases.git(project, "diff", "--cached")) == state


@pytest.mark.parametrize("command", [releases.BY_HAND, releases.BY_RENOVATE], ids=["by hand", "by Renovate"])
def test_a_renamed_answer_keeps_its_value(history: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    answers = {**profiles.REQUIRED, "dotnet_solution": "Our.Shop"}
    project = releases.start(history, "v0.4.0", tmp_path / "project", answers)
    releases.update(project, command)
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded["dotnet_solution"] == "Our.Shop"
    assert "dotnet_project" not in recorded


def test_a_renamed_answer_keeps_its_value_where_no_migration_runs(history: Path, tmp_path: Path) -> None:
    answers = {**profiles.REQUIRED, "dotnet_solution": "Our.Shop"}
    project = releases.start(history, "v0.4.0", tmp_path / "project", answers)
    run_recopy(project, vcs_ref=releases.NEXT, defaults=True, overwrite=True, unsafe=True, quiet=True)
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert recorded["dotnet_solution"] == "Our.Shop"


class TestAMovedSetting:
    """Keys of YAML that people edit."""

    def moved(self, tmp_path: Path, text: str, old: str = "swap_file_mb", new: str = "swap_file_mib") -> str:
        path = tmp_path / "file.yml"
        path.write_bytes(text.encode())
        migrate.move_key(path, tuple(old.split(".")), tuple(new.split(".")))
        return path.read_bytes().decode()

    def test_keeps_comments_order_quotes_and_indentation(self, tmp_path: Path) -> None:
        text = (
            "---\n# Ours.\nadmin_keys:\n    - 'ssh-ed25519 AAAA ann'   # Ann\n\n# Small servers.\n"
            'swap_file_mb: 1024  # MiB\nautomatic_reboot_time: "04:30"\n'
        )
        assert self.moved(tmp_path, text) == text.replace("swap_file_mb", "swap_file_mib")

    def test_keeps_line_ends_of_windows(self, tmp_path: Path) -> None:
        assert self.moved(tmp_path, "a: 1\r\nswap_file_mb: 2\r\n") == "a: 1\r\nswap_file_mib: 2\r\n"

    def test_keeps_long_lines_and_tags(self, tmp_path: Path) -> None:
        text = f"motd: {'word ' * 60}end\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3132\nswap_file_mb: 2\n"
        assert self.moved(tmp_path, text) == text.replace("swap_file_mb", "swap_file_mib")

    def test_goes_to_another_map_with_its_comment(self, tmp_path: Path) -> None:
        text = "swap:\n  path: /swapfile\nmemory:\n  swap: 2 # GiB\n  huge: false\n"
        told = self.moved(tmp_path, text, "memory.swap", "swap.size")
        assert told == "swap:\n  path: /swapfile\n  size: 2 # GiB\nmemory:\n  huge: false\n"

    @pytest.mark.parametrize("text", ["a: 1\n", "# swap_file_mb: 2\n", "swap_file_mb: 2\nswap_file_mib: 3\n", "[1]\n"])
    def test_is_left_alone_where_it_is_not_or_has_been_moved(self, tmp_path: Path, text: str) -> None:
        assert self.moved(tmp_path, text) == text

    @pytest.mark.parametrize("text", ["$ANSIBLE_VAULT;1.1;AES256\n3132\n", "swap_file_mb: [\n"])
    def test_in_a_file_that_cannot_be_read_is_named(
        self, start: Start, text: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        project = start("v0.4.0", "managed-bundle")
        (project / VARIABLES).write_text(text, encoding="utf-8")
        migrate.migrate(migrate.Project(project, Path(".copier-answers.yml")), migrate.releases()["v0.5.0"])
        assert (project / VARIABLES).read_text(encoding="utf-8") == text
        assert f"{VARIABLES}: rename swap_file_mb to swap_file_mib yourself" in capfd.readouterr().err

    def test_says_what_to_install_and_changes_nothing_when_ruamel_is_missing(self, start: Start) -> None:
        project = start("v0.4.0", "managed-bundle")
        change(project, VARIABLES, "admin_keys: []", "admin_keys: []\nswap_file_mb: 512")
        before = rendering.contents(project)
        without = "import sys; sys.modules['ruamel.yaml'] = None; import migrate; sys.exit(migrate.main())"
        told = subprocess.run(
            [sys.executable, "-B", "-c", without, "v0.5.0", "before", ".copier-answers.yml"],
            cwd=project,
            env={"PYTHONPATH": str(rendering.ROOT / "migrations")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 1
        assert "pipx inject copier ruamel.yaml" in told.stderr
        assert "Traceback" not in told.stderr
        assert rendering.contents(project) == before


def test_a_misspelt_entry_of_the_table_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "releases.toml"
    table.write_text('["v9.0.0"]\nmovedd = {"a" = "b"}\n', encoding="utf-8")
    with pytest.raises(TypeError, match="movedd"):
        migrate.releases(table)
