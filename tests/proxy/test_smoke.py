"""infra/bin/smoke, with curl, over TLS, at a running proxy."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.proxy.programs import Proxy


@pytest.fixture
def smoke(rendered: Callable[[str], Path], proxy: Proxy, tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """`smoke(lines)`: exit code and output of the script with these lines in `smoke.conf`."""
    project = tmp_path / "project"
    shutil.copytree(rendered("default"), project)
    facts = project / "infra/deploy.conf"
    hosts = "STAGING_HOSTS=api=api.shop.test web=shop.test"
    facts.write_text(re.sub("(?m)^STAGING_HOSTS=.*", hosts, facts.read_text(encoding="utf-8")), encoding="utf-8")
    # curl's own settings send each name to this proxy, whose certificates are nobody's.
    (tmp_path / ".curlrc").write_text(f'connect-to = "::127.0.0.1:{proxy.https}"\ninsecure\n', encoding="utf-8")

    def ask(lines: str) -> tuple[int, str]:
        require("curl")
        (project / "infra/custom/smoke.conf").write_text(lines, encoding="utf-8")
        done = run([project / "infra/bin/smoke", "staging"], env={"CURL_HOME": str(tmp_path)}, check=False)
        return done.returncode, done.stdout + done.stderr

    return ask


def test_every_line_is_asked_and_told(smoke: Callable[[str], tuple[int, str]]) -> None:
    code, told = smoke("# a comment\napi /echo 200\n\nweb /page 200\nweb /does-not-exist 404\n")
    assert code == 0, told
    assert re.findall(r"ok +https://(\S+)  (\d+)", told) == [
        ("api.shop.test/echo", "200"),
        ("shop.test/page", "200"),
        ("shop.test/does-not-exist", "404"),
    ]


def test_one_wrong_answer_fails_and_the_others_are_still_asked(smoke: Callable[[str], tuple[int, str]]) -> None:
    code, told = smoke("web /does-not-exist 200\napi /echo 200 a text that is not there\nweb /page 200\n")
    assert code == 1
    assert "FAIL  https://shop.test/does-not-exist  404 instead of 200" in told
    assert "FAIL  https://api.shop.test/echo  200, but without the text: a text that is not there" in told
    assert "ok    https://shop.test/page  200" in told


def test_a_service_without_an_address_is_refused(smoke: Callable[[str], tuple[int, str]]) -> None:
    code, told = smoke("admin / 200\n")
    assert code == 1
    assert "names admin, which infra/deploy.conf has no address for" in told
