"""What the scripts of pgBackRest make of settings and labels, without a database."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests import tooling


@pytest.fixture
def server(rendered: Callable[[str], Path], tmp_path: Path) -> Path:
    """The folder of an application whose live release keeps 14 daily, 8 weekly and 24 monthly backups."""
    release = tmp_path / "releases" / "first"
    shutil.copytree(rendered("everything") / "infra", release / "infra")
    (release / "infra/custom/known_hosts").write_text("backups.example.com ssh-ed25519 AAAA\n", encoding="utf-8")
    (tmp_path / "backup_key").write_text("a key\n", encoding="utf-8")
    (tmp_path / ".env").write_text("POSTGRES_DB=shop\nPOSTGRES_USER=admin\n", encoding="utf-8")
    return tmp_path


def ask(server: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run Bash with the shared functions loaded."""
    return tooling.run(["bash", "-c", f". releases/first/infra/bin/pgbackrest.sh && {code}"], cwd=server, check=False)


def settings(server: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Read a ``backup.env`` as pgBackRest would get it."""
    file = server / "backup.env"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return ask(server, "configuration")


def test_weeks_and_months_are_kept_and_the_rest_expires(server: Path) -> None:
    fulls = [f"{date(2030, 1, 6) + timedelta(weeks=week):%Y%m%d}-021700F" for week in range(150)]
    labels = [label for full in fulls for label in (full, f"{full}_{full[:8]}-121700D")]
    catalogue = ",".join(f'{{"info":{{"size":{number}}},"label":"{label}"}}' for number, label in enumerate(labels))
    told = ask(server, f"catalogue='[{catalogue}]' && superfluous && echo && bytes_of {fulls[7]}").stdout
    expired, size = told.split("\n\n")
    kept = sorted(set(fulls) - set(expired.splitlines()))
    assert kept[-8:] == fulls[-8:]
    newest_of_months = {label[:6]: label for label in fulls}
    assert set(kept) == {*fulls[-8:], *list(newest_of_months.values())[-24:]}
    assert size == "14\n"


@pytest.mark.parametrize(
    ("repository", "lines"),
    [
        (
            "sftp://u1-sub2@u1.example.com:23//shop",
            {"type=sftp", "sftp-host=u1.example.com", "sftp-host-port=23", "sftp-host-user=u1-sub2", "path=/shop"},
        ),
        ("sftp:backup@203.0.113.9:/srv/shop", {"sftp-host=203.0.113.9", "sftp-host-port=22", "path=/srv/shop"}),
        (
            "s3:https://fsn1.example.com/bucket/shop",
            {"type=s3", "s3-endpoint=fsn1.example.com", "storage-port=443", "s3-bucket=bucket", "path=/shop"},
        ),
        ("s3:https://10.0.0.2:9000/bucket", {"storage-port=9000", "s3-key=id", "s3-region=fsn1", "path=/harbour-sons"}),
    ],
)
def test_an_address_in_the_notation_of_restic_is_read(server: Path, repository: str, lines: set[str]) -> None:
    keys = "AWS_ACCESS_KEY_ID=id\nAWS_SECRET_ACCESS_KEY=secret\nAWS_DEFAULT_REGION=fsn1\n"
    told = settings(server, f"BACKUP_REPOSITORY={repository}\nBACKUP_PASSWORD=word\n{keys}")
    assert told.returncode == 0, told.stderr
    written = set(told.stdout.splitlines())
    assert {f"repo1-{line}" for line in lines | {"cipher-type=aes-256-cbc", "cipher-pass=word"}} <= written
    assert {"pg1-user=admin", "pg1-database=shop"} <= written
    assert not {line for line in written if line.startswith("repo2")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("BACKUP_PASSWORD=word\n", "BACKUP_REPOSITORY is missing or empty"),
        ("BACKUP_REPOSITORY=sftp:a@b:/c\n", "BACKUP_PASSWORD is missing or empty"),
        ("BACKUP_REPOSITORY=ftp://b/c\nBACKUP_PASSWORD=word\n", "write sftp://USER@HOST:PORT//FOLDER"),
        ("BACKUP_REPOSITORY=s3:https://b/c\nBACKUP_PASSWORD=word\n", "the access key (AWS_ACCESS_KEY_ID)"),
        (
            "BACKUP_REPOSITORY=sftp:a@b:/c\nBACKUP_PASSWORD=word\nBACKUP2_REPOSITORY=sftp:a@b:/c\nBACKUP2_PASSWORD=word\n",
            "backup2_key is missing",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_do(server: Path, text: str, said: str) -> None:
    told = settings(server, text)
    assert told.returncode == 1
    assert said in told.stderr
