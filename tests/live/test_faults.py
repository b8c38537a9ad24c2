"""What goes wrong in the middle of a deploy: who serves meanwhile, and that the next one succeeds."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.lab.client import fetch
from tests.lab.server import MIGRATION, Server
from tests.lab.traffic import traffic

pytestmark = pytest.mark.live

FULL = bool(os.environ.get("FULL"))
IMPATIENT = {"DEPLOY_HEALTH_SECONDS": "20"}  # where nothing gets healthy however long one waits


def version(server: Server) -> str:
    """Ask the API who answers."""
    return str(fetch(server.address(), "/", port=8080).data["version"])


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"API_IMAGE": ("api", "never-healthy")}, "does not get healthy"),
        ({"WEB_IMAGE": ("web", "smoke-fails")}, "FAIL  web/  500 instead of 200"),
    ],
    ids=["unhealthy", "smoke fails"],
)
def test_a_release_that_fails_before_the_switch_never_serves(
    serve: Callable[..., Server], pushed: Callable[..., str], images: dict[str, tuple[str, str]], said: str
) -> None:
    server = serve()
    if said == "does not get healthy":
        server.write_env(**IMPATIENT)
    bad = {name: pushed(kind, "9", behaviour=behaviour) for name, (kind, behaviour) in images.items()}
    server.images |= {"API_IMAGE": pushed("api", "9"), **bad}
    server.release("bad")
    before = {name: container.id for name, container in server.running().items()}
    with traffic(server.site) as seen:
        told = server.deploy("bad", check=False)
    assert told.returncode == 1
    assert said in told.stdout
    assert "Serving: release first" in told.stdout
    assert seen.failed == []
    assert seen.versions == {"1"}
    assert {name: container.id for name, container in server.running(one_shots=True).items()} == before
    assert server.history()[-1] == ["deploy", "first", "bad", "failed"]


def test_a_worker_that_does_not_get_healthy_takes_its_release_back(
    serve: Callable[..., Server], pushed: Callable[..., str]
) -> None:
    server = serve()
    server.write_env(**IMPATIENT)
    server.release("bad", API_IMAGE=pushed("api", "9"), WORKER_IMAGE=pushed("worker", "9", behaviour="never-healthy"))
    with traffic(server.site) as seen:
        told = server.deploy("bad", check=False)
    assert told.returncode == 1
    assert seen.failed == []
    assert server.live()[0] == "first"
    assert version(server) == "1"
    assert server.running()["worker"].facts["Config"]["Image"] == server.images["WORKER_IMAGE"]
    assert server.history()[-1] == ["deploy", "first", "bad", "rolled back"]


def test_a_migration_that_fails_leaves_the_old_release_and_says_what_was_applied(serve: Callable[..., Server]) -> None:
    server = serve()
    half = "INSERT INTO \"__EFMigrationsHistory\" VALUES ('20300102000000_Half');\nSELECT 1/0;\n"
    server.release("bad", migration=MIGRATION + half)
    with traffic(server.site) as seen:
        told = server.deploy("bad", check=False)
    assert told.returncode == 1
    assert "applied: 20300102000000_Half" in told.stdout
    assert "division by zero" in told.stdout
    assert seen.failed == []
    assert server.live()[0] == "first"
    dump = server.folder / "backups/before-bad.dump"
    assert dump.read_bytes()[:5] == b"PGDMP"
    server.release("good", migration=MIGRATION + "-- mended\n")
    server.deploy("good")
    assert server.live()[0] == "good"


def test_a_migration_that_waits_for_a_lock_gives_up(serve: Callable[..., Server]) -> None:
    server = serve()
    server.write_env(MIGRATION_LOCK_TIMEOUT="1s")
    server.release("next", migration=MIGRATION + "ALTER TABLE items ADD COLUMN IF NOT EXISTS note text;\n")
    holder = server.running()["postgres"]
    sleeper = threading.Thread(
        target=holder.exec,
        args=(
            "psql",
            "-U",
            "postgres",
            "-d",
            "shop",
            "-c",
            "BEGIN; LOCK TABLE items IN ROW EXCLUSIVE MODE; SELECT pg_sleep(20)",
        ),
    )
    sleeper.start()
    time.sleep(1)
    told = server.deploy("next", check=False)
    sleeper.join()
    assert told.returncode == 1
    assert "lock timeout" in told.stdout
    server.deploy("next")
    assert server.live()[0] == "next"


def test_an_unchanged_migration_is_not_run_again(serve: Callable[..., Server]) -> None:
    server = serve()
    server.release("second")
    assert "unchanged since it was last applied" in server.deploy("second").stdout
    assert not list((server.folder / "backups").iterdir())


STEPS = ["Migrate", "Switch from"]  # before and after the point of no return
if FULL:
    STEPS += ["Pull images", "Try the new images", "Keep static", "Fill the slot", "Retire", "Replace worker", "Record"]


def test_a_deploy_killed_at_any_step_leaves_a_serving_site_and_can_be_run_again(
    serve: Callable[..., Server], pushed: Callable[..., str]
) -> None:
    server = serve()
    failures = {}
    for number, words in enumerate(STEPS):
        name = f"r{number}"
        server.release(
            name,
            migration=f"{MIGRATION}-- {number}\n",
            API_IMAGE=pushed("api", str(2 + number % 2)),
            WORKER_IMAGE=pushed("worker", str(2 + number % 2)),
        )
        with traffic(server.site, slow=False) as seen:
            server.kill(server.start_deploy(name), f"  {words}")
            time.sleep(1)
            told = server.deploy(name, check=False)
        if told.returncode or seen.failed or server.live()[0] != name:
            failures[words] = (told.stdout[-1500:], seen.failed[:3])
        services = set(server.running(one_shots=True))
        slot = server.live()[1]
        assert services == {f"api-{slot}", f"web-{slot}", "worker", "postgres", "caddy"}, words
    assert failures == {}


@pytest.mark.full
def test_a_deploy_killed_at_any_moment_is_finished_by_the_same_command(
    serve: Callable[..., Server], pushed: Callable[..., str]
) -> None:
    server = serve()
    failures = {}
    for number in range(20 if FULL else 2):
        name, moment = f"r{number}", secrets.SystemRandom().uniform(0.05, 8)
        server.release(name, migration=f"{MIGRATION}-- {number}\n", API_IMAGE=pushed("api", str(2 + number % 2)))
        with traffic(server.site, slow=False) as seen:
            running = server.start_deploy(name)
            time.sleep(moment)
            with suppress(ProcessLookupError):  # it may have ended already
                os.kill(int((server.folder / "state/lock.holder").read_text(encoding="utf-8").split()[0]), 9)
            running.wait(timeout=60)
            told = server.deploy(name, check=False)
        if told.returncode or seen.failed or server.live()[0] != name:
            failures[f"after {moment:.3f} s"] = (told.stdout[-1500:], seen.failed[:3])
    assert failures == {}


def test_two_deploys_at_once(serve: Callable[..., Server]) -> None:
    server = serve()
    server.release("second")
    first = server.start_deploy("second")
    until = time.monotonic() + 20
    while not (server.folder / "state/lock.holder").read_text(encoding="utf-8").count("second"):
        assert time.monotonic() < until
        time.sleep(0.05)
    told = server.deploy("first", check=False)
    assert told.returncode == 75
    assert "the deploy of release second" in told.stdout
    assert "is under way" in told.stdout
    assert first.wait(timeout=120) == 0
    assert server.live()[0] == "second"


def test_a_connection_that_is_cut_does_not_end_the_deploy(serve: Callable[..., Server]) -> None:
    server = serve()
    server.release("second")
    running = server.start_deploy("second")
    time.sleep(1)
    running.send_signal(1)
    running.wait(timeout=20)
    until = time.monotonic() + 60
    while server.history()[-1] != ["deploy", "first", "second", "ok"]:
        assert time.monotonic() < until, server.script("logs", "deploy").stdout
        time.sleep(0.3)
    assert server.live()[0] == "second"
