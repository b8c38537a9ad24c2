"""What a server does with its volume at the first boot, and when it is made anew. Only mounting is left out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

SIZE = 16 * 1024 * 1024


@pytest.fixture
def mount(rendered: Callable[[str], Path], tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """Run the script with its places moved into a folder, and a file for the device."""
    script = (rendered("terraform") / "infra/terraform/mount-data-volume.sh").read_text(encoding="utf-8")
    for old, new in (
        ("/etc/fstab", f"{tmp_path}/fstab"),
        ("data=/srv/data", f"data={tmp_path}/data"),
        ("volumes=/var/lib/docker/volumes", f"volumes={tmp_path}/volumes"),
        ('-b "$device"', '-f "$device"'),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "script").write_text(script, encoding="utf-8")
    (tmp_path / "fstab").touch()
    for name, code in {
        "systemctl": "true",
        "mount": 'echo "$@" >>mounted',
        "mountpoint": 'grep -qsx "$2" mounted',
    }.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{code}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    def go(**programs: str) -> CompletedProcess[str]:
        for name, code in programs.items():
            (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{code}\n", encoding="utf-8")
            (tmp_path / name).chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}:/usr/sbin:/sbin"
        return run(["bash", "script", tmp_path / "device"], cwd=tmp_path, env={"PATH": path}, check=False)

    return go


def needs_ext4() -> None:
    """Skip where there is no ext4."""
    for program in ("blkid", "mkfs.ext4"):
        if not any((Path(folder) / program).exists() for folder in ("/usr/sbin", "/sbin")):
            require(program)


def uuid(device: Path) -> str:
    return run(["/usr/sbin/blkid", "-p", "-s", "UUID", "-o", "value", device]).stdout


def test_an_empty_volume_is_formatted_once_and_mounted_at_every_boot(
    mount: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    needs_ext4()
    device = tmp_path / "device"
    device.write_bytes(b"\0" * SIZE)
    assert mount().returncode == 0
    first = uuid(device)
    assert first
    table = (tmp_path / "fstab").read_text(encoding="utf-8")
    assert [line.split()[1] for line in table.splitlines()] == [f"{tmp_path}/data", f"{tmp_path}/volumes"]
    assert all("nofail" in line for line in table.splitlines()), "without its volume the server could not boot"
    assert (tmp_path / "mounted").read_text(encoding="utf-8").split() == [f"{tmp_path}/data", f"{tmp_path}/volumes"]
    # Again, as when the volume comes to a new server: what it holds is kept, and nothing is written twice.
    assert mount().returncode == 0
    assert uuid(device) == first
    assert (tmp_path / "fstab").read_text(encoding="utf-8") == table
    assert len((tmp_path / "mounted").read_text(encoding="utf-8").split()) == 2


def test_a_volume_that_cannot_be_read_is_left_alone(
    mount: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "device").write_bytes(b"precious" * 1000)
    told = mount(blkid="exit 4")
    assert told.returncode == 1
    assert "it is left alone" in told.stderr
    assert (tmp_path / "device").read_bytes() == b"precious" * 1000
    assert (tmp_path / "fstab").read_text(encoding="utf-8") == ""


def test_a_volume_that_does_not_appear_is_an_error(mount: Callable[..., CompletedProcess[str]]) -> None:
    told = mount(sleep="exit 0")
    assert told.returncode == 1
    assert "did not appear within ten minutes" in told.stderr
