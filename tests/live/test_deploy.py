"""deploy, rollback and their helpers on a real engine: what serves, what is refused, what is kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import rendering
from tests.lab import images as lab_images
from tests.lab.client import fetch
from tests.lab.containers import Container, started
from tests.lab.registry import Registry
from tests.lab.server import MIGRATION, Server
from tests.lab.shell import run
from tests.lab.traffic import CLIENTS, Site, traffic

pytestmark = pytest.mark.live


def version(server: Server) -> str:
    """Ask the API who answers."""
    return str(fetch(server.address(), "/", port=8080).data["version"])


def test_the_standards_own_line_changes_nothing_on_a_live_server(serve: Callable[..., Server]) -> None:
    server = serve()
    before = {name: container.id for name, container in server.running().items()}
    compose = "docker compose -f infra/docker-compose.prod.yml"
    server.run("bash", "-c", f"{compose} pull && {compose} up -d")
    assert {name: container.id for name, container in server.running().items()} == before


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


def test_preflight_refuses_the_wrong_user_an_old_engine_and_a_slot_that_nobody_wrote_down(
    serve: Callable[..., Server],
) -> None:
    server = serve({"worker": False, "frontends": ""})
    before = {name: container.id for name, container in server.running().items()}
    root = run(server.folder / "releases/first/infra/bin/deploy", cwd=server.folder, check=False)
    refused(root, "not as root")

    # The same docker, but for what it says about its versions.
    shim = server.folder / "home/docker"
    for question, said in (("compose version", "Compose 2.23.3 is too old"), ("version", "Docker 2.23.3 is too old")):
        real = run("bash", "-c", "command -v docker").stdout.strip()
        lines = ("#!/bin/sh", f'case "$*" in "{question}"*) echo 2.23.3; exit ;; esac', f'exec {real} "$@"', "")
        shim.write_text("\n".join(lines), encoding="utf-8")
        shim.chmod(0o755)
        path = f"{shim.parent}:{os.environ['PATH']}"
        refused(server.run("releases/first/infra/bin/deploy", check=False, PATH=path), said)

    live = server.folder / "state/compose.env"
    known = live.read_text(encoding="utf-8")
    live.write_text(known.replace("COMPOSE_PROFILES=blue", "COMPOSE_PROFILES=green"), encoding="utf-8")
    refused(server.deploy("first", check=False), "say --live blue")
    live.write_text(known, encoding="utf-8")
    assert {name: container.id for name, container in server.running(one_shots=True).items()} == before


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
    refused(told, "does not exist yet, but this server has")
    assert f" {server.name}_postgres_data" in told.stdout + told.stderr  # other tests may have volumes as well


SITES = {
    "caddy": ("custom/caddy/other_sites.caddy", "http://:8081 {\n\trespond new\n}\n"),
    "nginx": ("custom/nginx/other_sites.conf", "server {\n  listen 8081;\n  return 200 new;\n}\n"),
}


def seconds_between(earlier: str, later: str) -> float:
    """From one time of a day to another."""
    moments = (datetime.strptime(each, "%H:%M:%S").replace(tzinfo=UTC) for each in (later, earlier))
    return (next(moments) - next(moments)).total_seconds()


RELOAD_SECONDS = 3
CLOSINGS = ("closed while idle", "other side closed", "read ECONNRESET", "WebSocket: InvalidMessage('did not receive a")


# Caddy's reload loses a request that had to try its slot again, as one has to on a busy machine.
@pytest.mark.parametrize("proxy", [pytest.param("caddy", marks=pytest.mark.alone), "nginx"])
def test_settings_of_the_environment_and_the_proxy_take_effect_by_a_deploy(
    serve: Callable[..., Server], proxy: str
) -> None:
    server = serve({"proxy": proxy})
    before = server.running()[proxy].id

    def change(folder: Path) -> None:
        name, text = SITES[proxy]
        (folder / "infra" / name).parent.mkdir(exist_ok=True)
        (folder / "infra" / name).write_text(text, encoding="utf-8")

    server.release("second", change=change)
    server.write_env(ASPNETCORE_ENVIRONMENT="Staging")
    with traffic(server.site) as seen, browser(server.site) as noticed:
        told = server.deploy("second").stdout
    assert fetch(server.address(), "/", port=8081).text == "new"
    assert fetch(server.address(), "/", port=8080).data["environment"] == "Staging"
    assert server.running()[proxy].id == before
    assert noticed["lost"] == [], "a browser noticed it"
    assert noticed["sessions"] > 1, "its connection was never closed: what does this show?"
    # Caddy closes connections of HTTP/1.1 that are idle when it is reloaded: told apart from a failed answer, and from
    # any other moment. A page shows it when it was the front end's own connection to the API, whoever asked for it;
    # Node calls it a reset if its request was on the way already, and so was a WebSocket's that got no answer. Each
    # connection is closed once.
    closings = CLOSINGS if proxy == "caddy" else ()
    switched = re.search(r"==> (\S+)  Switch from", told)
    assert switched
    failed = [*seen.failed, *noticed["failed"]]
    moments = {each.split()[0] for each in failed}
    assert all(0 <= seconds_between(switched[1], moment) <= RELOAD_SECONDS for moment in moments), (
        switched[1],
        moments,
    )
    assert [each for each in failed if not any(words in each for words in closings)] == []
    assert len(failed) <= (2 * CLIENTS if closings else 0)
    assert sum(noticed["statuses"].values()) == noticed["statuses"]["200"] + len(noticed["failed"])
    assert seen.slow_completed > 0
    assert seen.conversations > 0


@contextmanager
def browser(site: Site) -> Iterator[dict[str, Any]]:
    """Somebody who asks over HTTP/2 as browsers do; what became of the requests is told when the block has ended."""
    noticed: dict[str, Any] = {}
    command = ("node", "tests/lab/browser.mjs", site.address, str(site.port), site.web)
    with subprocess.Popen(command, cwd=rendering.ROOT, stdout=subprocess.PIPE, text=True) as asking:
        try:
            yield noticed
        finally:
            asking.terminate()
            noticed.update(json.loads(asking.communicate(timeout=60)[0]))


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
        pytest.param({"dotnet_image": "chiseled", "worker": False, "postgres_version": 17}, marks=pytest.mark.full),
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


def test_a_managed_database_is_migrated_used_over_tls_backed_up_and_restored(
    serve: Callable[..., Server], pushed: Callable[..., str], provider: Container
) -> None:
    port = provider.facts["NetworkSettings"]["Ports"]["5432/tcp"][0]["HostPort"]
    answers = {"hosting_provider": "ovh", "database": "managed"}
    server = serve(answers, {"POSTGRES_HOST": "172.17.0.1", "POSTGRES_PORT": port}, RESTIC_IMAGE=pushed("restic:0.18"))
    assert fetch(server.address(), "/db", port=8080).data["tls"] is True
    server.release("second", API_IMAGE=pushed("api", "2"), migration=MIGRATION + "-- another\n")
    with traffic(server.site, slow=False) as seen:
        server.deploy("second")
        server.script("rollback")
    assert seen.failed == []
    assert (server.folder / "backups/before-second.dump").read_bytes()[:5] == b"PGDMP"

    psql = ("psql", "-XAt", "-U", "postgres", "-d", "shop", "-c")
    provider.exec(*psql, "INSERT INTO items (name) VALUES ('kept')")
    server.script("backup", "--setup", check=False)
    with (server.folder / "backup.env").open("a", encoding="utf-8") as file:
        file.write(f"BACKUP_REPOSITORY={server.folder / 'home/repository'}\n")
    server.script("backup", "--setup")
    server.script("backup")
    provider.exec(*psql, "DELETE FROM items")
    server.script("restore", "--into-live", "--confirm", "harbour-shop")
    assert provider.exec(*psql, "SELECT count(*) FROM items WHERE name = 'kept'").stdout.strip() == "1"
    assert fetch(server.address(), "/db", port=8080).data["tls"] is True
    server.script("restore-drill")


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
