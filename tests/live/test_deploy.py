"""deploy, rollback and their helpers on a real engine: what serves, what never does, what a broken run leaves."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.lab import images as lab_images
from tests.lab.client import fetch
from tests.lab.containers import Container, started
from tests.lab.figures import Figures
from tests.lab.registry import Registry
from tests.lab.server import MIGRATION, Server, environment_of
from tests.lab.shell import run
from tests.lab.traffic import traffic
from tests.proxy.programs import without_acme

pytestmark = pytest.mark.live

# One change of each kind shows the behaviour; FULL=1 repeats it until the figures mean something.
FULL = bool(os.environ.get("FULL"))
ROUNDS = 10 if FULL else 1

Render = Callable[[Mapping[str, Any]], Path]


@pytest.fixture(scope="session")
def pushed(registry: Registry) -> Callable[..., str]:
    """`pushed("api", "2", behaviour="…")`: a build of a stand-in by digest, on this engine and in the registry."""
    known: dict[tuple[str, ...], str] = {}

    def push(kind: str, version: str = "", **choices: str) -> str:
        key = (kind, version, *(f"{name}={value}" for name, value in sorted(choices.items())))
        if key not in known:
            local = lab_images.app(kind, version, **choices) if version else lab_images.ensure(kind)
            known[key] = registry.push(local, f"shop/{kind.replace(':', '-')}", version or "1")
        return known[key]

    return push


@pytest.fixture
def serve(render: Render, pushed: Callable[..., str]) -> Iterator[Callable[..., Server]]:
    """`serve(answers)`: a server on which the release "first" was deployed."""
    made: list[Server] = []

    def make(answers: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, **more: str) -> Server:
        answers = answers or {}
        path = render(answers)
        proxy = answers.get("proxy", "caddy")
        images = {"API_IMAGE": pushed("api", "1"), "POSTGRES_IMAGE": pushed("postgres:18")}
        images[f"{proxy.upper()}_IMAGE"] = pushed(proxy)
        if answers.get("worker", True):
            images["WORKER_IMAGE"] = pushed("worker", "1")
        if answers.get("frontends", "web"):
            images["WEB_IMAGE"] = pushed("web", "1")
        if proxy == "nginx":
            lacking_acme(path)
        server = Server(path, images | more, {**environment_of(path), **(env or {})})
        made.append(server)
        server.release("first")
        server.deploy("first", "--new-database")  # other tests may leave volumes on this engine
        return server

    yield make
    for server in made:
        with server:
            pass


def lacking_acme(project: Path) -> None:
    """Take the ACME module out of nginx.conf: the stand-in has none, and its certificate comes from the test."""
    file = project / "infra/nginx.conf"
    sites = file.read_text(encoding="utf-8").count("acme_certificate default;")
    text = without_acme(file.read_text(encoding="utf-8"), project, sites=sites)
    file.write_text(re.sub(r"(?m)^ +\w+_temp_path .*\n", "", text), encoding="utf-8")


def version(server: Server) -> str:
    """Ask the API who answers."""
    return str(fetch(server.address(), "/", port=8080).data["version"])


@pytest.mark.alone
@pytest.mark.parametrize("proxy", ["caddy", "nginx"])
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
    assert seen.failed == []
    assert seen.longest < 0.5, seen.report()
    assert {"1", "2"} <= seen.versions
    assert seen.slow_completed > 0
    assert seen.conversations > 0
    stored = server.query("SELECT name, count(*) FROM items GROUP BY name").splitlines()
    counted = dict(line.split("|") for line in stored)
    assert set(counted.values()) == {"1"}, "a POST was processed twice"
    assert seen.acknowledged <= counted.keys()
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
    assert seen.failed == []
    assert suffered.failed or suffered.longest > 1, "plain Compose was not noticed either: what is this good for?"
    assert median(ours) <= 1.5 * median(plain), (ours, plain)
    assert max(back) < 15, back


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


def test_the_standards_own_line_changes_nothing_on_a_live_server(serve: Callable[..., Server]) -> None:
    server = serve()
    before = {name: container.id for name, container in server.running().items()}
    compose = "docker compose -f infra/docker-compose.prod.yml"
    server.run("bash", "-c", f"{compose} pull && {compose} up -d")
    assert {name: container.id for name, container in server.running().items()} == before


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


STEPS = ["Migrate", "Fill the slot", "Switch from", "Replace worker"]
if FULL:
    STEPS += ["Pull images", "Try the new images", "Keep static", "Retire", "Record"]


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


def test_a_deploy_killed_at_any_moment_is_finished_by_the_same_command(
    serve: Callable[..., Server], pushed: Callable[..., str]
) -> None:
    server = serve()
    failures = {}
    for number in range(20 if FULL else 3):
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


def refused(told: subprocess.CompletedProcess[str], words: str) -> None:
    """Expect a sentence, and that nothing was touched."""
    assert told.returncode == 1, told.stdout
    assert words in told.stdout + told.stderr


def test_preflight_refuses_with_a_sentence_and_touches_nothing(
    serve: Callable[..., Server], pushed: Callable[..., str]
) -> None:
    server = serve()
    before = {name: container.id for name, container in server.running().items()}
    server.release("next", API_IMAGE=pushed("api", "2"))
    kept = dict(server.env)

    server.write_env(JWT_SECRET="")
    refused(server.deploy("next", check=False), "missing or empty in")
    server.write_env(**kept)

    (server.folder / ".env").chmod(0o644)
    refused(server.deploy("next", check=False), "can be read by others")
    (server.folder / ".env").chmod(0o600)

    text = (server.folder / ".env").read_text(encoding="utf-8")
    (server.folder / ".env").write_text(re.sub("(?m)^JWT_SECRET=.*", "JWT_SECRET=ab$cd", text), encoding="utf-8")
    refused(server.deploy("next", check=False), "write it in 'single quotes'")
    server.write_env(**kept)

    server.write_env(DEPLOY_FREE_DISK_MB="999999999")
    refused(server.deploy("next", check=False), "are needed (DEPLOY_FREE_DISK_MB")
    server.write_env(DEPLOY_FREE_DISK_MB="1", DEPLOY_FREE_MEMORY_MB="99999999")
    refused(server.deploy("next", check=False), "MB of memory are free")
    server.write_env(DEPLOY_FREE_MEMORY_MB="1")

    server.release("by-tag", API_IMAGE="registry.example/shop-api:latest")
    refused(server.deploy("by-tag", check=False), "API_IMAGE in release.env has no digest")

    gone = pushed("api", "2").partition("@")[0] + "@sha256:" + "0" * 64
    server.release("unknown-digest", API_IMAGE=gone)
    refused(server.deploy("unknown-digest", check=False), "cannot pull")

    def break_compose(folder: Path) -> None:
        (folder / "infra/docker-compose.prod.yml").write_text("services: [", encoding="utf-8")

    server.release("broken-compose", change=break_compose)
    refused(server.deploy("broken-compose", check=False), "Compose does not accept the release")

    def break_proxy(folder: Path) -> None:
        file = folder / "infra/Caddyfile"
        file.write_text(file.read_text(encoding="utf-8") + "\nnonsense {\n\tnonsense\n}\n", encoding="utf-8")

    server.release("broken-proxy", change=break_proxy)
    refused(
        server.deploy("broken-proxy", check=False), "the configuration of caddy in release broken-proxy is not valid"
    )

    def contract_at_once(folder: Path) -> None:
        (folder / "infra/custom/schema.conf").write_text("CONTRACTED=1\nPREPARED=1\n", encoding="utf-8")

    server.release("contracts", change=contract_at_once)
    refused(server.deploy("contracts", check=False), "removes what the running one (first) still uses")

    assert {name: container.id for name, container in server.running(one_shots=True).items()} == before
    assert server.live()[0] == "first"
    server.deploy("next")
    assert version(server) == "2"


def test_a_rollback_across_a_contract_step_is_refused(serve: Callable[..., Server]) -> None:
    server = serve()

    def schema(contracted: int, prepared: int) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            text = f"CONTRACTED={contracted}\nPREPARED={prepared}\n"
            (folder / "infra/custom/schema.conf").write_text(text, encoding="utf-8")

        return change

    server.release("prepares", change=schema(0, 1))
    server.release("contracts", change=schema(1, 1), migration=MIGRATION + "-- removes\n")
    server.deploy("prepares")
    server.deploy("contracts")
    told = server.script("rollback", "first", check=False)
    assert told.returncode == 1
    assert "step 1 has removed what it needs" in told.stderr
    server.script("rollback", "prepares")
    assert server.live()[0] == "prepares"


def test_a_second_rollback_does_not_return_to_what_was_rolled_back(serve: Callable[..., Server]) -> None:
    server = serve()
    for name in ("second", "third"):
        server.release(name)
        server.deploy(name)
    for expected in ("second", "first"):
        server.script("rollback")
        assert server.live()[0] == expected
    told = server.script("rollback", check=False)
    assert told.returncode == 1
    assert "no release before first" in told.stderr
    server.deploy("third")  # it was deployed again: now it counts
    server.script("rollback", "first")
    server.deploy("second")
    server.script("rollback")
    assert server.live()[0] == "first"


def test_an_empty_volume_beside_a_populated_one_is_refused(serve: Callable[..., Server]) -> None:
    server = serve()

    def rename(folder: Path) -> None:
        for file in ("infra/docker-compose.prod.yml", "infra/deploy.conf"):
            text = (folder / file).read_text(encoding="utf-8")
            (folder / file).write_text(text.replace(server.name, f"{server.name}x"), encoding="utf-8")

    server.release("renamed", change=rename)
    told = server.deploy("renamed", check=False)
    refused(told, f"this server has {server.name}_postgres_data")


def test_settings_of_the_environment_and_the_proxy_take_effect_by_a_deploy(serve: Callable[..., Server]) -> None:
    server = serve()
    before = server.running()["caddy"].id

    def change(folder: Path) -> None:
        (folder / "infra/custom/caddy").mkdir()
        (folder / "infra/custom/caddy/other_sites.caddy").write_text(
            "http://:8081 {\n\trespond new\n}\n", encoding="utf-8"
        )

    server.release("second", change=change)
    server.write_env(ASPNETCORE_ENVIRONMENT="Staging")
    with traffic(server.site, slow=False) as seen:
        server.deploy("second")
    assert fetch(server.address(), "/", port=8081).text == "new"
    assert fetch(server.address(), "/", port=8080).data["environment"] == "Staging"
    assert server.running()["caddy"].id == before
    # A new configuration of Caddy closes connections that are idle at that moment: told apart from a failed answer.
    assert [each for each in seen.failed if "closed while idle" not in each] == []


def test_the_proxys_own_image_is_replaced_on_its_own_and_the_pause_is_told(
    serve: Callable[..., Server], pushed: Callable[..., str], registry: Registry
) -> None:
    server = serve()
    before = server.running()
    other = registry.push(lab_images.derive(pushed("caddy"), "caddy-other:1", "LABEL other=yes"), "shop/caddy", "other")
    server.release("second", CADDY_IMAGE=other)
    assert "would replace caddy: nobody can connect until it is back" in server.deploy("second", "--dry-run").stdout
    told = server.deploy("second").stdout
    assert re.search(r"caddy was away for \d+\.\d s", told)
    after = server.running()
    assert after["caddy"].id != before["caddy"].id
    assert (after["postgres"].id, after["worker"].id) == (before["postgres"].id, before["worker"].id)


def test_a_page_of_an_older_release_finds_its_files(serve: Callable[..., Server], pushed: Callable[..., str]) -> None:
    server = serve()
    server.release("second", WEB_IMAGE=pushed("web", "2"))
    server.deploy("second")
    kept = server.folder / "proxy/static/web/_next/static/chunks"
    assert len(list(kept.iterdir())) == 2
    port = server.env["HTTPS_PORT"]
    for file in kept.iterdir():
        answer = run(
            *("curl", "-sk", "--resolve", f"web.localhost:{port}:127.0.0.1", "-o", "/dev/null", "-w", "%{http_code}"),
            f"https://web.localhost:{port}/_next/static/chunks/{file.name}",
        )
        assert answer.stdout == "200", file.name


def test_the_maintenance_page_is_switched_on_and_off(serve: Callable[..., Server]) -> None:
    server = serve()
    port = server.env["HTTPS_PORT"]

    def status() -> str:
        command = ["curl", "-sk", "--resolve", f"web.localhost:{port}:127.0.0.1", "-w", "\n%{http_code}"]
        return run(*command, f"https://web.localhost:{port}/").stdout

    assert status().endswith("\n200")
    server.script("maintenance", "on")
    assert "Back soon" in status()
    assert status().endswith("\n503")
    assert "maintenance  ON" in server.script("status").stdout
    server.script("maintenance", "off")
    assert status().endswith("\n200")


# What an EF bundle does with its connection string, in the PostgreSQL image.
BUNDLE = r"""
IFS=';'; for pair in $ConnectionStrings__Database; do declare "${pair%%=*}=${pair#*=}"; done
PGHOST=$Host PGDATABASE=$Database PGUSER=$Username PGPASSWORD=$Password exec psql -v ON_ERROR_STOP=1 -c "$MIGRATION"
"""


@pytest.mark.parametrize(
    "answers",
    [
        {"frontends": "", "worker": False, "egress": []},
        # The worker's stand-in exists in the variant Ubuntu alone.
        {
            "proxy": "nginx",
            "frontends": "web admin",
            "dotnet_image": "alpine",
            "worker": False,
            "migrations": "ef_bundle",
        },
        {"dotnet_image": "chiseled", "worker": False, "postgres_version": 17},
        {"worker_health": "heartbeat", "egress": ["frontends"]},
    ],
    ids=["API alone", "nginx, two front ends, alpine, bundle", "chiseled", "heartbeat"],
)
def test_every_topology_is_deployed_and_rolled_back(
    serve: Callable[..., Server], pushed: Callable[..., str], registry: Registry, answers: Mapping[str, Any]
) -> None:
    more = {}
    kind = {"alpine": "api-alpine", "chiseled": "api-chiseled"}.get(answers.get("dotnet_image", ""), "api")
    if answers.get("migrations") == "ef_bundle":
        local = lab_images.derive(
            pushed("postgres:18"),
            "bundle:1",
            f"ENV MIGRATION={json.dumps(MIGRATION.replace(chr(10), ' '))}",
            f"ENTRYPOINT {json.dumps(['bash', '-c', BUNDLE])}",
        )
        more["MIGRATE_IMAGE"] = registry.push(local, "shop/migrate", "1")
    if "admin" in answers.get("frontends", ""):
        more["ADMIN_IMAGE"] = pushed("web", "1", name="admin")
    if answers.get("postgres_version"):
        more["POSTGRES_IMAGE"] = pushed(f"postgres:{answers['postgres_version']}")

    def api(version: str) -> str:
        if kind != "api-chiseled":
            return pushed(kind, version)
        line = f"COPY --from={lab_images.ensure('alpine')} /bin/busybox /usr/bin/busybox"  # as our Dockerfile does
        local = lab_images.derive(lab_images.app(kind, version), f"api-chiseled-busybox:{version}", line)
        return registry.push(local, "shop/api-chiseled-busybox", version)

    server = serve(answers, **more, API_IMAGE=api("1"))
    server.release("second", API_IMAGE=api("2"))
    with traffic(server.site, slow=False) as seen:
        server.deploy("second")
        server.script("rollback")
    assert seen.failed == []
    assert seen.versions == {"1", "2"}
    assert [row[0] for row in server.history()] == ["deploy", "deploy", "rollback"]


@pytest.fixture
def provider(image: Callable[[str], str], tmp_path: Path) -> Iterator[Container]:
    """A provider's PostgreSQL, which speaks TLS alone, outside of every network of the project."""
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=database.example"),
        *("-keyout", key, "-out", certificate),
    )
    run("chown", "999:999", key, certificate)
    options = ("--env", "POSTGRES_PASSWORD=administrator", "--env", "POSTGRES_DB=shop", "--publish", "172.17.0.1::5432")
    mounts = ("--volume", f"{key}:/tls.key:ro", "--volume", f"{certificate}:/tls.crt:ro")
    settings = ("postgres", "-cssl=on", "-cssl_cert_file=/tls.crt", "-cssl_key_file=/tls.key")
    with started(image("postgres:18"), *settings, options=(*options, *mounts)) as container:
        container.wait_for_log("listening on IPv4")
        yield container


def test_a_managed_database_is_migrated_and_used_over_tls(
    serve: Callable[..., Server], pushed: Callable[..., str], provider: Container
) -> None:
    port = provider.facts["NetworkSettings"]["Ports"]["5432/tcp"][0]["HostPort"]
    answers = {"hosting_provider": "ovh", "database": "managed"}
    server = serve(answers, {"POSTGRES_HOST": "172.17.0.1", "POSTGRES_PORT": port})
    assert fetch(server.address(), "/db", port=8080).data["tls"] is True
    server.release("second", API_IMAGE=pushed("api", "2"), migration=MIGRATION + "-- another\n")
    with traffic(server.site, slow=False) as seen:
        server.deploy("second")
        server.script("rollback")
    assert seen.failed == []
    assert (server.folder / "backups/before-second.dump").read_bytes()[:5] == b"PGDMP"


def test_only_the_last_releases_are_kept(serve: Callable[..., Server], pushed: Callable[..., str]) -> None:
    server = serve()
    for number in range(6):
        server.release(f"r{number}", API_IMAGE=pushed("api", str(20 + number)))
        server.run("touch", "--date", "2 hours ago", *(str(path) for path in (server.folder / "releases").iterdir()))
        server.deploy(f"r{number}")
    assert sorted(path.name for path in (server.folder / "releases").iterdir()) == [
        f"r{number}" for number in range(1, 6)
    ]
    here = run("docker", "image", "inspect", pushed("api", "20"), check=False)
    assert here.returncode != 0, "the image of a release that is gone is still there"
    assert run("docker", "image", "inspect", pushed("api", "21"), check=False).returncode == 0


def test_what_did_not_change_is_not_replaced(serve: Callable[..., Server]) -> None:
    server = serve()
    (server.folder / "releases/first/infra/custom/worker.env").write_text("QUEUE=one\n", encoding="utf-8")
    assert "Replace worker" in server.deploy("first").stdout
    before = {name: server.running()[name].id for name in ("worker", "caddy", "postgres")}
    told = server.deploy("first").stdout
    assert "Replace" not in told
    assert {name: server.running()[name].id for name in before} == before


def test_no_secret_is_written_where_others_can_read_it(serve: Callable[..., Server]) -> None:
    server = serve()
    secrets = {name: f"value-of-{name}" for name in server.env if "PASSWORD" in name or "SECRET" in name}
    server.write_env(JWT_SECRET=secrets["JWT_SECRET"])
    server.query(f"ALTER ROLE postgres PASSWORD '{secrets['POSTGRES_PASSWORD']}'")
    server.write_env(**secrets)
    server.release("second", migration=MIGRATION + "-- another\n")
    server.deploy("second", check=False)
    readable = [path for path in server.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in readable:
        if path.stat().st_mode & 0o077 or path.suffix == ".log":
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [secret for secret in secrets.values() if secret in text], path
