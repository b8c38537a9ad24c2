"""The generated topology on a real engine, started with the lines that the standard prescribes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import profiles
from tests.lab import images
from tests.lab.client import wait_for
from tests.lab.containers import Container, started
from tests.lab.place import free_port
from tests.lab.project import Project
from tests.lab.registry import Registry
from tests.lab.shell import LabError, clean_environment, run

pytestmark = pytest.mark.live

RunProject = Callable[[Path, Mapping[str, str]], Project]
Render = Callable[[Mapping[str, Any]], Path]

CREATE_ITEMS = (
    "CREATE TABLE IF NOT EXISTS items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);\n"
)
API_HOST = "api.shop.example.com"


@pytest.fixture
def start(
    render: Render, run_project: RunProject, image: Callable[[str], str], app_image: Callable[..., str]
) -> Callable[..., Project]:
    """`start(answers, api="api")`: a generated project with the environment of a server, not started yet."""

    def prepare(answers: Mapping[str, Any], *, api: str = "api", version: str = "1") -> Project:
        path = render(answers)
        postgres = answers.get("postgres_version", profiles.questions()["postgres_version"]["default"])
        environment = {
            "COMPOSE_PROFILES": "blue",
            "API_HOSTNAME": API_HOST,
            "WEB_HOSTNAME": "shop.example.com",
            "JWT_SECRET": "c2VjcmV0IG9mIGEgdGVzdA==",
            "JWT_ISSUER": f"https://{API_HOST}",
            "WEB_ORIGIN": "https://shop.example.com",
            "POSTGRES_DB": "shop",
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": "administrator",
            "POSTGRES_OWNER_PASSWORD": "owner",
            "POSTGRES_APP_PASSWORD": "application",
            "API_IMAGE": app_image(api, version),
            "WORKER_IMAGE": app_image("worker", version),
            "WEB_IMAGE": app_image("web", version),
            "POSTGRES_IMAGE": image(f"postgres:{postgres}"),
            "CADDY_IMAGE": image("caddy"),
            "HTTP_PORT": str(free_port()),
            "HTTPS_PORT": str(free_port()),
            # Nobody answers there: certificates are not what these tests are about.
            "ACME_DIRECTORY": "https://127.0.0.1:9/directory",
        }
        migrations = path / "infra" / "migrations"
        migrations.mkdir()
        (migrations / "migrate.sql").write_text(CREATE_ITEMS)
        return run_project(path, environment)

    return prepare


def with_busybox(chiseled: str, image: Callable[[str], str]) -> str:
    """Add the program of the health checks, as the generated Dockerfile does."""
    line = f"COPY --from={image('alpine')} /bin/busybox /usr/bin/busybox"
    return images.derive(chiseled, "api-chiseled-busybox:1", line)


def standard_deploy(project: Project) -> None:
    """Start the project as the standard writes it, and wait until all of it is healthy."""
    project.compose("up", "-d")
    for service in project.compose("ps", "--services").split():
        project.wait_healthy(service)


def ask_api(project: Project, path: str, *, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    """Ask the API through the proxy's internal listener, from inside the front end's container."""
    script = (
        "const [url, method, body] = process.argv.slice(1);"
        "fetch(url, {method, body: body || undefined})"
        ".then(async r => console.log(JSON.stringify([r.status, await r.text()])))"
    )
    slot = project.env["COMPOSE_PROFILES"]
    printed = project.exec(f"web-{slot}", "node", "-e", script, f"http://api:8080{path}", method, body or "")
    status, text = json.loads(printed)
    return int(status), str(text)


def can_connect(project: Project, service: str, host: str, port: int) -> bool:
    """Say whether a TCP connection from a front end's container succeeds."""
    script = (
        "const [host, port] = process.argv.slice(1);"
        "const s = require('net').connect({host, port: Number(port), timeout: 2000});"
        "s.on('connect', () => { console.log('yes'); s.destroy(); });"
        "s.on('error', () => console.log('no')); s.on('timeout', () => { console.log('no'); s.destroy(); });"
    )
    return project.exec(service, "node", "-e", script, host, str(port)).strip() == "yes"


@contextmanager
def outside() -> Iterator[tuple[str, int]]:
    """A host of this test's own behind the machine: what a way out leads to, as the internet would be."""
    name, near, far = "slipway-lab-outside", "198.18.255.1", "198.18.255.2"
    with ExitStack() as undo:
        run("ip", "netns", "add", name)
        undo.callback(run, "ip", "netns", "delete", name)
        run("ip", "link", "add", "slipway-lab", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", f"{near}/30", "dev", "slipway-lab")
        run("ip", "link", "set", "slipway-lab", "up")
        run("ip", "-n", name, "address", "add", f"{far}/30", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "http.server", "8000", "--bind", far],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        undo.callback(server.wait)
        undo.callback(server.terminate)
        wait_for(far, port=8000)
        yield far, 8000


@pytest.mark.parametrize(
    ("answers", "api"),
    [
        ({}, "api"),
        # The scripts' own tests start these too.
        pytest.param({"worker_health": "heartbeat"}, "api", marks=pytest.mark.full),
        pytest.param({"dotnet_image": "alpine"}, "api-alpine", marks=pytest.mark.full),
        pytest.param({"dotnet_image": "chiseled"}, "api-chiseled", marks=pytest.mark.full),
    ],
    ids=["ubuntu", "heartbeat", "alpine", "chiseled"],
)
def test_the_standards_own_line_starts_a_healthy_site(
    start: Callable[..., Project], image: Callable[[str], str], answers: dict[str, Any], api: str
) -> None:
    # The worker's variants share the API's health check; only Ubuntu's stand-in exists for it.
    project = start({**answers, "worker": api == "api"}, api=api)
    if api == "api-chiseled":
        project.write_env(API_IMAGE=with_busybox(project.env["API_IMAGE"], image))
    standard_deploy(project)
    assert ask_api(project, "/health")[0] == 200
    before = {service: project.containers(service)[0].id for service in project.compose("ps", "--services").split()}
    project.compose("up", "-d")
    after = {service: project.containers(service)[0].id for service in project.compose("ps", "--services").split()}
    assert after == before, "the same line again replaced a container"


def test_an_api_that_is_not_healthy_is_seen_as_unhealthy(
    start: Callable[..., Project], app_image: Callable[..., str]
) -> None:
    project = start({"worker": False})
    project.write_env(API_IMAGE=app_image("api", "2", behaviour="never-healthy"))
    project.compose("up", "-d")
    with pytest.raises(LabError):
        project.wait_healthy("api-blue", timeout=15)


def test_the_idle_slot_takes_the_new_image_while_the_other_goes_on(
    start: Callable[..., Project], app_image: Callable[..., str]
) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    blue = project.containers("api-blue")[0].id
    project.write_env(API_IMAGE=app_image("api", "2"))
    project.compose("up", "-d", "--no-deps", "--wait", "api-green", "web-green")
    assert project.containers("api-blue")[0].id == blue
    project.write_env(COMPOSE_PROFILES="green")
    project.compose("--profile", "blue", "rm", "--stop", "--force", "api-blue", "web-blue")
    for _ in range(20):
        status, body = ask_api(project, "/")
        assert (status, json.loads(body)["version"]) == (200, "2")


def test_the_application_reads_and_writes_rows_but_cannot_change_the_schema(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    project.compose("run", "--rm", "migrate")
    assert ask_api(project, "/items", method="POST", body='{"name": "anchor"}')[0] in (200, 201)
    status, items = ask_api(project, "/items")
    assert status == 200
    assert "anchor" in items
    assert json.loads(ask_api(project, "/ddl")[1])["sqlstate"] == "42501"


@pytest.mark.parametrize(
    "version", [pytest.param(15, marks=pytest.mark.full), pytest.param(17, marks=pytest.mark.full), 18]
)
def test_rows_outlive_their_container_in_every_major_version(start: Callable[..., Project], version: int) -> None:
    project = start({"worker": False, "postgres_version": version})
    standard_deploy(project)
    project.compose("run", "--rm", "migrate")
    assert ask_api(project, "/items", method="POST", body='{"name": "anchor"}')[0] in (200, 201)
    project.down()
    standard_deploy(project)
    assert "anchor" in ask_api(project, "/items")[1]


def test_the_server_has_checksums_and_the_sizes_of_its_environment(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    project.write_env(POSTGRES_SHARED_BUFFERS="64MB", POSTGRES_MAX_CONNECTIONS="42", POSTGRES_LOG_SLOWER_THAN="250ms")
    standard_deploy(project)

    def setting(name: str) -> str:
        return project.exec("postgres", "psql", "-U", "postgres", "-d", "shop", "-Atc", f"SHOW {name}").strip()

    assert setting("data_checksums") == "on"
    assert setting("shared_buffers") == "64MB"
    assert setting("max_connections") == "42"
    assert setting("log_min_duration_statement") == "250ms"


def test_the_standards_own_line_pulls_what_the_digests_name(start: Callable[..., Project], registry: Registry) -> None:
    project = start({"worker": False})
    local = {name: value for name, value in project.env.items() if name.endswith("_IMAGE") and name != "WORKER_IMAGE"}
    by_digest = {name: registry.push(image, f"shop/{name.lower()}", "1") for name, image in local.items()}
    # Nothing of it is on the server yet under these names.
    for name, reference in by_digest.items():
        run("docker", "image", "rm", f"{reference.partition('@')[0]}:1", check=False)
        run("docker", "image", "rm", reference, check=False)
        assert run("docker", "image", "inspect", reference, check=False).returncode != 0, name
    project.write_env(**by_digest)
    line = (
        "docker compose -f infra/docker-compose.prod.yml pull && docker compose -f infra/docker-compose.prod.yml up -d"
    )
    run("sh", "-c", line, cwd=project.path, env=clean_environment())
    for service in project.compose("ps", "--services").split():
        project.wait_healthy(service)
    running = {service: project.containers(service)[0].facts["Config"]["Image"] for service in ("api-blue", "caddy")}
    assert running == {"api-blue": by_digest["API_IMAGE"], "caddy": by_digest["CADDY_IMAGE"]}


@pytest.mark.parametrize(("variant", "stand_in"), [("alpine", "api-alpine"), ("chiseled", "api-chiseled")])
def test_a_workers_heartbeat_is_seen_without_bash(
    render: Render, image: Callable[[str], str], app_image: Callable[..., str], variant: str, stand_in: str
) -> None:
    path = render({"dotnet_image": variant, "worker_health": "heartbeat"})
    check = yaml.safe_load((path / "infra/docker-compose.prod.yml").read_text())["services"]["worker"]["healthcheck"]
    kind, *command = (part.replace("$$", "$") for part in check["test"])
    assert kind == "CMD"
    reference = app_image(stand_in)
    if variant == "chiseled":
        reference = with_busybox(reference, image)
    idle = ("--entrypoint", "busybox", "--user", "1654:1654", "--tmpfs", "/tmp")
    with started(reference, "sleep", "60", options=idle) as worker:
        assert worker.exec(*command, check=False).returncode != 0, "no heartbeat yet"
        worker.exec("busybox", "touch", "/tmp/heartbeat")
        assert worker.exec(*command, check=False).returncode == 0
        worker.exec("busybox", "touch", "-d", "2001-01-01 00:00", "/tmp/heartbeat")
        assert worker.exec(*command, check=False).returncode != 0, "the last beat is old"


def test_a_migration_that_fails_is_reported_and_the_site_goes_on(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    (project.path / "infra/migrations/migrate.sql").write_text(
        "START TRANSACTION;\nCREATE TABLE a (x int);\nSELECT 1/0;\nCOMMIT;\n"
    )
    with pytest.raises(LabError, match="division by zero"):
        project.compose("run", "--rm", "migrate")
    tables = project.exec(
        "postgres",
        "psql",
        "-U",
        "postgres",
        "-d",
        "shop",
        "-Atc",
        r"SELECT count(*) FROM pg_tables WHERE tablename = 'a'",
    )
    assert tables.strip() == "0"
    assert ask_api(project, "/health")[0] == 200


def test_a_missing_migration_script_is_an_error_and_not_an_empty_folder(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    (project.path / "infra/migrations/migrate.sql").unlink()
    (project.path / "infra/migrations").rmdir()
    with pytest.raises(LabError, match="migrations"):
        project.compose("run", "--rm", "migrate")
    assert not (project.path / "infra/migrations").exists()


def test_the_roles_service_changes_passwords_of_a_database_that_runs(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    project.write_env(POSTGRES_APP_PASSWORD="rotated")
    project.compose("run", "--rm", "roles")
    standard_deploy(project)
    assert json.loads(ask_api(project, "/ddl")[1])["sqlstate"] == "42501"
    assert "rotated" not in project.logs("postgres")


def test_who_can_reach_whom(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    with outside() as (host, port):
        assert json.loads(ask_api(project, f"/connect?host={host}&port={port}")[1])["connected"], (
            "the API has a way out"
        )
        assert not can_connect(project, "web-blue", host, port), "a front end has none"
    assert json.loads(ask_api(project, "/connect?host=postgres&port=5432")[1])["connected"]
    assert not can_connect(project, "web-blue", project.address("postgres", "data"), 5432)
    assert can_connect(project, "web-blue", "api", 8080)


def test_every_container_is_confined(start: Callable[..., Project]) -> None:
    project = start({})
    standard_deploy(project)
    published: dict[str, set[str]] = {}
    for service in project.compose("ps", "--services").split():
        facts = project.containers(service)[0].facts
        host = facts["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["Memory"] > 0, service
        assert host["NanoCpus"] > 0, service
        assert host["PidsLimit"] > 0, service
        assert host["LogConfig"]["Config"]["max-size"], service
        published[service] = set(host["PortBindings"] or {})
    assert published.pop("caddy") == {"80/tcp", "443/tcp", "443/udp"}
    assert not any(published.values())
    for service in ("api-blue", "web-blue", "worker"):
        status = project.exec(
            service,
            "cat" if service == "web-blue" else "bash",
            *(["/proc/1/status"] if service == "web-blue" else ["-c", "cat /proc/1/status"]),
        )
        assert "CapEff:\t0000000000000000" in status, service
        assert "\nUid:\t0\t" not in status, service


def test_the_proxy_cannot_read_the_secrets(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    proxy: Container = project.containers("caddy")[0]
    assert proxy.exec("cat", "/etc/caddy/Caddyfile").returncode == 0
    assert proxy.exec("cat", "/etc/caddy/.env", check=False).returncode != 0
    assert "application" not in json.dumps(proxy.facts["Config"]["Env"])


def test_nothing_starts_without_a_slot(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    project.env.pop("COMPOSE_PROFILES")
    project.write_env()
    with pytest.raises(LabError, match=r"COMPOSE_PROFILES is missing a value: is missing in \.env, set it to blue"):
        project.compose("up", "-d")
    project.write_env(COMPOSE_PROFILES="blue")


def test_plain_http_is_sent_to_tls(start: Callable[..., Project]) -> None:
    project = start({"worker": False})
    standard_deploy(project)
    status = run(
        "curl",
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} %{redirect_url}",
        "--header",
        f"Host: {API_HOST}",
        f"http://127.0.0.1:{project.env['HTTP_PORT']}/items?x=1",
    ).stdout
    assert status == f"308 https://{API_HOST}/items?x=1"
