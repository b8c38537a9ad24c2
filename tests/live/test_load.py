"""Users of a site while it changes: how many requests fail, how long the longest takes, beside plain Compose."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from statistics import median

import pytest

from tests.lab.figures import Figures
from tests.lab.server import Server
from tests.lab.traffic import Seen, traffic

pytestmark = pytest.mark.live

# One change of each kind shows the behaviour; FULL=1 repeats it until the figures mean something.
FULL = bool(os.environ.get("FULL"))
ROUNDS = 10 if FULL else 1


# Without FULL=1 Caddy's users are those of the next test.
@pytest.mark.alone
@pytest.mark.parametrize("proxy", [pytest.param("caddy", marks=pytest.mark.full), "nginx"])
def test_nobody_notices_deploys_and_rollbacks(
    serve: Callable[..., Server], pushed: Callable[..., str], figures: Figures, proxy: str
) -> None:
    server = serve({"proxy": proxy})
    server.release(
        "second", API_IMAGE=pushed("api", "2"), WEB_IMAGE=pushed("web", "2"), WORKER_IMAGE=pushed("worker", "2")
    )
    before = server.running()
    with traffic(server.site) as seen:
        for _ in range(ROUNDS):
            server.deploy("second")
            server.script("rollback")
        server.deploy("second")
    changes = 2 * ROUNDS + 1
    figures.add(f"{changes} deploys and rollbacks in a row, {proxy}", seen.summary())
    unnoticed(server, seen)
    assert server.live()[0] == "second"
    after = server.running()
    assert {name: after[name].id for name in ("postgres", proxy)} == {
        name: before[name].id for name in ("postgres", proxy)
    }
    assert [row[0] for row in server.history()] == ["deploy", *["deploy", "rollback"] * ROUNDS, "deploy"]


@pytest.mark.alone
def test_beside_plain_compose_nobody_waits_and_it_takes_not_much_longer(
    serve: Callable[..., Server], pushed: Callable[..., str], figures: Figures
) -> None:
    server = serve()
    old = dict(server.images)
    new = old | {name: pushed(kind, "2") for name, kind in OWN.items()}
    plain: list[float] = []
    ours: list[float] = []
    back: list[float] = []
    for number in range(3 if FULL else 1):
        with traffic(server.site) as suffered:
            plain += [plain_update(server, images) for images in (new, old)]
        server.images = new
        server.release(f"a{number}")
        server.images = old
        server.release(f"b{number}")
        with traffic(server.site) as seen:
            for letter in "ab":
                told = server.deploy(f"{letter}{number}").stdout
                ours.append(whole(told) - taken(told, "Try the new images"))
            back.append(whole(server.script("rollback").stdout))
    figures.add("the same images by `docker compose pull && up -d`", f"{median(plain):.1f} s; {suffered.summary()}")
    figures.add("by `infra/bin/deploy`, its trial not counted", f"{median(ours):.1f} s; {seen.summary()}")
    figures.add("`infra/bin/rollback`", f"{median(back):.1f} s")
    unnoticed(server, seen)
    assert seen.longest < suffered.longest / 4
    assert suffered.failed or suffered.longest > 1, "plain Compose was not noticed either: what is this good for?"
    assert median(ours) <= 1.5 * median(plain), (ours, plain)
    assert max(back) < 15, back


def unnoticed(server: Server, seen: Seen) -> None:
    """Whoever asked got both versions without an error or a wait, and what they sent is stored once."""
    assert seen.failed == []
    assert seen.longest < 0.5, seen.report()
    assert {"1", "2"} <= seen.versions
    assert seen.slow_completed > 0
    assert seen.conversations > 0
    stored = server.query("SELECT name, count(*) FROM items GROUP BY name").splitlines()
    counted = dict(line.split("|") for line in stored)
    assert set(counted.values()) == {"1"}, "a POST was processed twice"
    assert seen.acknowledged <= counted.keys()


OWN = {"API_IMAGE": "api", "WEB_IMAGE": "web", "WORKER_IMAGE": "worker"}


def plain_update(server: Server, images: Mapping[str, str]) -> float:
    """Change images as the standard does it; the seconds until everything is healthy again."""
    file = server.folder / "state/compose.env"
    text = file.read_text(encoding="utf-8")
    for name, reference in images.items():
        text = re.sub(f"(?m)^{name}=.*", f"{name}={reference}", text)
    file.write_text(text, encoding="utf-8")
    began = time.monotonic()
    compose = "docker compose -f infra/docker-compose.prod.yml"
    server.run("bash", "-c", f"{compose} pull --quiet && {compose} up --detach --wait --quiet-pull")
    return time.monotonic() - began


def taken(told: str, words: str) -> float:
    """The seconds of one step, as a deploy has told them."""
    found = re.search(rf"==> \S+  {words}.*\n(?:    .*\n)*?    ([\d.]+) s\n", told)
    assert found, told
    return float(found.group(1))


def whole(told: str) -> float:
    """The seconds of the whole, as a deploy or rollback has told them."""
    found = re.search(r"after ([\d.]+) s\.", told)
    assert found, told
    return float(found.group(1))
