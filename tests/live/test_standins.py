"""The stand-ins are as strict as the official images that they stand for.

A stand-in that is kinder than the real image hides defects, so every row of what the official images promise is tried.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab import images
from tests.lab.client import Answer, fetch, wait_for
from tests.lab.containers import Container, network, run_once, started, volume
from tests.lab.registry import Registry
from tests.lab.shell import run

pytestmark = [pytest.mark.live, pytest.mark.slow]

Image = Callable[[str], str]
AppImage = Callable[..., str]

DROP_ALL = ("--cap-drop=ALL", "--security-opt=no-new-privileges:true")
POSTGRES_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID")
NGINX_CAPABILITIES = ("NET_BIND_SERVICE", "SETUID", "SETGID", "CHOWN")
API_ENV = {
    "ASPNETCORE_ENVIRONMENT": "Production",
    "ConnectionStrings__Database": "Host=db;Database=shop;Username=shop_app;Password='p;w'",
    "JwtSettings__Secret": "secret",
    "JwtSettings__Issuer": "issuer",
    "Cors__WebOrigin": "https://shop.example",
}


def env(values: dict[str, str]) -> tuple[str, ...]:
    """Options of ``docker run`` that set variables."""
    return tuple(word for name, value in values.items() for word in ("--env", f"{name}={value}"))


def add(*capabilities: str) -> tuple[str, ...]:
    """Options of ``docker run`` that drop every capability but these."""
    return (*DROP_ALL, *(f"--cap-add={name}" for name in capabilities))


def config(reference: str) -> dict[str, Any]:
    """An image's own configuration."""
    return dict(json.loads(run("docker", "image", "inspect", "--format", "{{json .Config}}", reference).stdout))


def has(container: Container, program: str) -> bool:
    """Whether a program can be found in a container."""
    return container.exec("sh", "-c", f"command -v {program}", check=False).returncode == 0


# ----- PostgreSQL ---------------------------------------------------------------------------------------------------

DATABASE = {"POSTGRES_USER": "shop", "POSTGRES_PASSWORD": "first", "POSTGRES_DB": "shop_db"}


@contextmanager
def postgres(image: str, *command: str, options: tuple[str, ...] = (), **changes: str) -> Iterator[Container]:
    """A PostgreSQL that is ready for connections over TCP."""
    with started(image, *command, options=(*env(DATABASE | changes), *options)) as server:
        wait_until_serving(server)
        yield server


def wait_until_serving(server: Container) -> None:
    until = time.monotonic() + 60
    while server.exec("pg_isready", "-q", "-h", "127.0.0.1", check=False).returncode != 0:
        assert time.monotonic() < until, server.logs()
        assert server.state == "running", server.logs()
        time.sleep(0.2)


def sql(server: Container, query: str, *, user: str = "shop", database: str = "shop_db") -> str:
    """One value, over the local socket."""
    return server.exec("psql", "-XAtq", "-U", user, "-d", database, "-c", query).stdout.strip()


@pytest.fixture(scope="module", params=[15, 17, 18])
def major(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def postgres_image(image: Image, major: int) -> str:
    return image(f"postgres:{major}")


@pytest.fixture(scope="module")
def server(postgres_image: str) -> Iterator[Container]:
    """One database for the tests that only look at it."""
    with postgres(postgres_image) as running:
        yield running


def test_postgres_starts_as_root_and_serves_as_999(server: Container) -> None:
    assert server.exec("id", "-u").stdout.strip() == "0"
    assert server.exec("stat", "-c", "%u:%g", "/proc/1").stdout.strip() == "999:999"
    assert server.exec("sh", "-c", 'stat -c "%u %a" "$PGDATA"').stdout.strip() == "999 700"


def test_postgres_keeps_its_data_where_its_version_does(postgres_image: str, major: int) -> None:
    volume_path = "/var/lib/postgresql" if major >= 18 else "/var/lib/postgresql/data"
    data = f"/var/lib/postgresql/{major}/docker" if major >= 18 else volume_path
    settings = config(postgres_image)
    assert settings["Volumes"] == {volume_path: {}}
    assert f"PGDATA={data}" in str(settings["Env"])
    assert settings["StopSignal"] == "SIGINT"


def test_postgres_18_refuses_the_volume_of_older_versions(image: Image) -> None:
    with volume() as data:
        mount = ("--volume", f"{data}:/var/lib/postgresql/data")
        refused = run_once(image("postgres:18"), options=(*env(DATABASE), *mount))
    assert refused.returncode != 0
    assert "/var/lib/postgresql" in refused.stderr


def test_postgres_needs_its_five_capabilities_and_no_others(postgres_image: str) -> None:
    # A fresh volume is the postgres user's already, so that CHOWN is needed for what is mounted empty: a tmpfs.
    socket_folder = ("--tmpfs", "/var/run/postgresql")
    with postgres(postgres_image, options=(*socket_folder, *add(*POSTGRES_CAPABILITIES))):
        pass
    for missing in ("CHOWN", "SETUID", "SETGID"):
        granted = [name for name in POSTGRES_CAPABILITIES if name != missing]
        refused = run_once(postgres_image, options=(*env(DATABASE), *socket_folder, *add(*granted)))
        assert refused.returncode != 0, f"starts without {missing}"


def test_postgres_without_dac_override_cannot_look_into_its_own_folder_again(postgres_image: str, major: int) -> None:
    with volume() as data:
        where = "/var/lib/postgresql" if major >= 18 else "/var/lib/postgresql/data"
        mount = ("--volume", f"{data}:{where}")
        with postgres(postgres_image, options=mount) as server:
            server.stop()
        refused = run_once(
            postgres_image, options=(*env(DATABASE), *mount, *add("CHOWN", "FOWNER", "SETUID", "SETGID"))
        )
        assert refused.returncode != 0


def test_postgres_as_its_own_user_needs_no_capability(postgres_image: str) -> None:
    with postgres(postgres_image, options=("--user", "999:999", *DROP_ALL)) as server:
        assert sql(server, "SELECT 1") == "1"


def test_postgres_has_the_tools_of_its_version_and_no_downloader(server: Container, major: int) -> None:
    for tool in ("psql", "pg_dump", "pg_restore", "pg_isready"):
        assert f"(PostgreSQL) {major}." in server.exec(tool, "--version").stdout
    assert has(server, "bash")
    assert not has(server, "curl")
    assert not has(server, "wget")


def test_postgres_stops_cleanly(postgres_image: str) -> None:
    with postgres(postgres_image) as server:
        assert server.stop() < 8
        assert "database system is shut down" in server.logs()
        assert server.facts["State"]["ExitCode"] == 0


def test_postgres_wants_a_password_for_a_new_database(image: Image) -> None:
    refused = run_once(image("postgres:17"), options=env({"POSTGRES_USER": "shop"}))
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr


def test_postgres_reads_the_password_from_a_file_but_not_from_both(image: Image, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from-file\n")
    mount = ("--volume", f"{secret}:/run/secrets/password:ro")
    both = DATABASE | {"POSTGRES_PASSWORD_FILE": "/run/secrets/password"}
    assert run_once(image("postgres:17"), options=(*env(both), *mount)).returncode != 0
    with postgres(image("postgres:17"), options=mount, **both | {"POSTGRES_PASSWORD": ""}) as server:
        assert login(server, "from-file") is None


def login(server: Container, password: str) -> str | None:
    """Log in over TCP from the container's own outer address; what went wrong, or None."""
    url = f"postgresql://shop:{password}@{server.address()}/shop_db"
    return server.exec("psql", "-XAtqc", "SELECT 1", url, check=False).stderr or None


def test_postgres_takes_the_password_at_the_first_start_only(postgres_image: str, major: int) -> None:
    with volume() as data:
        where = "/var/lib/postgresql" if major >= 18 else "/var/lib/postgresql/data"
        mount = ("--volume", f"{data}:{where}")
        with postgres(postgres_image, options=mount) as server:
            assert login(server, "first") is None
            server.stop()
        with postgres(postgres_image, options=mount, POSTGRES_PASSWORD="second") as server:
            assert login(server, "first") is None
            assert "password authentication failed" in str(login(server, "second"))


def test_postgres_makes_the_user_its_superuser_and_the_database(server: Container) -> None:
    assert sql(server, "SELECT rolsuper FROM pg_roles WHERE rolname = 'shop'") == "t"
    assert sql(server, "SELECT count(*) FROM pg_roles WHERE rolname = 'postgres'") == "0"
    encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'shop_db'"
    assert sql(server, encoding) == "UTF8"


def test_postgres_hands_on_arguments_to_initdb_and_to_the_server(postgres_image: str) -> None:
    with postgres(postgres_image, "-c", "max_connections=23", POSTGRES_INITDB_ARGS="--wal-segsize=32") as server:
        assert sql(server, "SHOW wal_segment_size") == "32MB"
        assert sql(server, "SHOW max_connections") == "23"


def test_postgres_runs_init_scripts_once_and_without_tcp(postgres_image: str, major: int, tmp_path: Path) -> None:
    scripts = {
        "1-first.sql": "CREATE TABLE log (id serial, word text); INSERT INTO log (word) VALUES (current_user);",
        "2-second.sh": "#!/bin/bash\npsql -v ON_ERROR_STOP=1 -U $POSTGRES_USER -d $POSTGRES_DB -c "
        "\"INSERT INTO log (word) VALUES ('tcp $(pg_isready -q -h 127.0.0.1 && echo open || echo closed)')\"\n",
        "3-ignored.txt": "not a script",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "2-second.sh").chmod(0o755)
    tmp_path.chmod(0o755)
    where = "/var/lib/postgresql" if major >= 18 else "/var/lib/postgresql/data"
    with volume() as data:
        options = ("--volume", f"{tmp_path}:/docker-entrypoint-initdb.d:ro", "--volume", f"{data}:{where}")
        for _ in range(2):
            with postgres(postgres_image, options=options) as server:
                assert sql(server, "SELECT string_agg(word, ', ' ORDER BY id) FROM log") == "shop, tcp closed"
                server.stop()


def test_postgres_fails_when_an_init_script_fails(image: Image, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("SELECT 1/0;")
    tmp_path.chmod(0o755)
    mount = ("--volume", f"{tmp_path}:/docker-entrypoint-initdb.d:ro")
    assert run_once(image("postgres:17"), options=(*env(DATABASE), *mount)).returncode != 0


def test_postgres_executes_any_other_command_as_it_is(postgres_image: str, major: int) -> None:
    assert run_once(postgres_image, "id", "-u").stdout.strip() == "0"
    assert f" {major}." in run_once(postgres_image, "postgres", "--version").stdout


# ----- Caddy --------------------------------------------------------------------------------------------------------


def test_caddy_cannot_be_executed_without_net_bind_service(image: Image) -> None:
    caddy = image("caddy")
    refused = run_once(caddy, "caddy", "version", options=("--cap-drop=ALL",))
    assert refused.returncode != 0
    assert "operation not permitted" in refused.stderr.lower()
    allowed = run_once(caddy, "caddy", "version", options=add("NET_BIND_SERVICE"))
    assert allowed.stdout.startswith("v2.11.7")


def test_caddy_is_configured_like_the_official_image(image: Image) -> None:
    settings = config(image("caddy"))
    assert settings["Volumes"] == {"/config": {}, "/data": {}}
    assert settings["WorkingDir"] == "/srv"
    assert settings["Cmd"] == ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
    assert set(settings["ExposedPorts"]) == {"80/tcp", "443/tcp", "443/udp", "2019/tcp"}
    assert not settings.get("User")


def test_caddy_serves_as_root_with_busybox_and_curl_and_keeps_certificates_in_data(image: Image) -> None:
    options = add("NET_BIND_SERVICE")
    with started(image("caddy"), "caddy", "file-server", "--domain", "localhost", options=options) as server:
        server.wait_for_log("certificate obtained")
        assert server.exec("id", "-u").stdout.strip() == "0"
        assert "BusyBox" in server.exec("sh", "-c", "wget --help 2>&1").stdout
        assert has(server, "curl")
        assert not has(server, "bash")
        assert server.exec("sh", "-c", "ls /data/caddy/pki/authorities/local/root.crt").returncode == 0


def test_caddy_serves_its_default_page_and_administers_only_locally(image: Image) -> None:
    with started(image("caddy"), options=add("NET_BIND_SERVICE")) as server:
        assert "Caddy works" in wait_for(server.address()).text
        assert server.exec("curl", "-sf", "http://localhost:2019/config/").returncode == 0
        with pytest.raises(OSError, match="refused"):
            fetch(server.address(), port=2019)
        assert server.stop() < 8
        assert server.facts["State"]["ExitCode"] == 0


# ----- nginx --------------------------------------------------------------------------------------------------------


def test_nginx_has_a_root_master_and_workers_of_uid_101(image: Image) -> None:
    with started(image("nginx"), options=add(*NGINX_CAPABILITIES)) as server:
        assert "nginx works" in wait_for(server.address()).text
        # What began before the master may have ended since, this shell's own children among them.
        owners = server.exec(
            "sh", "-c", "for p in /proc/[0-9]*; do grep -qs ^nginx $p/comm && stat -c %u $p; done; true"
        ).stdout
        assert owners.split()[0] == "0"
        assert set(owners.split()[1:]) == {"101"}
        assert '"GET / HTTP/1.1" 200' in server.logs()
        assert has(server, "curl")


def serves(server: Container) -> bool:
    """Whether it answers within the time that it normally needs; one that gave up has no address any more."""
    try:
        return server.state == "running" and wait_for(server.address(), timeout=3).status == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("missing", NGINX_CAPABILITIES)
def test_nginx_needs_its_four_capabilities(image: Image, missing: str) -> None:
    granted = [name for name in NGINX_CAPABILITIES if name != missing]
    low_ports = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024")
    with started(image("nginx"), options=(*add(*granted), *low_ports)) as server:
        assert not serves(server)


def test_nginx_can_run_with_a_read_only_root(image: Image) -> None:
    options = (*add(*NGINX_CAPABILITIES), "--read-only")
    writable = ("--tmpfs", "/run", "--tmpfs", "/var/cache/nginx")
    with started(image("nginx"), options=(*options, *writable)) as server:
        assert wait_for(server.address()).status == 200
    with started(image("nginx"), options=options) as server:
        assert not serves(server)


def test_nginx_fills_templates_with_the_variables_that_are_set(image: Image, tmp_path: Path) -> None:
    template = "server { listen 80; location / { return 200 '${NAME} $host ${NAME_UNSET}'; } }"
    (tmp_path / "default.conf.template").write_text(template.replace("${NAME_UNSET}", ""))
    tmp_path.chmod(0o755)
    mount = ("--volume", f"{tmp_path}:/etc/nginx/templates:ro")
    with started(image("nginx"), options=(*env({"NAME": "shop"}), *mount)) as server:
        assert wait_for(server.address()).text.split() == ["shop", server.address()]


def test_nginx_is_new_enough_to_resolve_upstreams_again(image: Image, tmp_path: Path) -> None:
    nginx = image("nginx")
    version = re.search(r"nginx/([\d.]+)", run_once(nginx, "nginx", "-v").stderr)
    assert version
    assert tuple(map(int, version[1].split("."))) >= (1, 27, 3)
    upstream = "resolver 127.0.0.11; upstream u { zone u 64k; server api:8080 resolve; keepalive 8; }"
    (tmp_path / "u.conf").write_text(upstream)
    tmp_path.chmod(0o755)
    checked = run_once(nginx, "nginx", "-t", options=("--volume", f"{tmp_path}:/etc/nginx/conf.d:ro"))
    assert checked.returncode == 0, checked.stderr


def test_nginx_stops_gracefully(image: Image) -> None:
    assert config(image("nginx"))["StopSignal"] == "SIGQUIT"
    with started(image("nginx")) as server:
        wait_for(server.address())
        assert server.stop() < 8
        assert server.facts["State"]["ExitCode"] == 0


# ----- API and worker -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backend(image: Image) -> Iterator[str]:
    """A network with a database that knows an owner and an application role without DDL rights."""
    with network() as net, postgres(image("postgres:17"), options=("--network", net, "--network-alias", "db")) as db:
        sql(db, "CREATE ROLE shop_app LOGIN PASSWORD 'p;w'")
        sql(db, "CREATE DATABASE shop")
        for statement in (
            "CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)",
            "GRANT SELECT, INSERT ON items TO shop_app",
        ):
            sql(db, statement, database="shop")
        yield net


@contextmanager
def application(image: str, net: str, options: tuple[str, ...] = (), **changes: str) -> Iterator[tuple[Container, str]]:
    """A running API or worker, and its address."""
    with started(image, options=("--network", net, *env(API_ENV | changes), *options)) as container:
        yield container, container.address(net)


ask = partial(fetch, port=8080)


def test_api_is_healthy_and_works_as_the_application_role(app_image: AppImage, backend: str) -> None:
    with application(app_image("api", "7"), backend) as (_, address):
        assert wait_for(address, "/health", port=8080).text == "Healthy"
        home = ask(address, "/", headers={"X-Forwarded-Proto": "https"}).data
        assert (home["service"], home["version"], home["environment"]) == ("api", "7", "Production")
        assert home["forwarded"] == {"X-Forwarded-Proto": "https"}
        before = ask(address, "/items").data["count"]
        assert ask(address, "/items", method="POST", body='{"name": "anchor"}').status == 201
        assert ask(address, "/items").data["count"] == before + 1
        assert ask(address, "/db").data["user"] == "shop_app"
        assert ask(address, "/ddl").data["sqlstate"] == "42501"


def test_api_is_alive_but_not_healthy_without_its_database(app_image: AppImage) -> None:
    with network() as net, application(app_image("api"), net) as (_, address):
        assert wait_for(address, "/health/live", port=8080).text == "Healthy"
        assert ask(address, "/health").status == 503
        assert ask(address, "/health/ready").status == 503


@pytest.mark.parametrize("missing", sorted(API_ENV))
def test_api_refuses_to_start_without_a_setting(app_image: AppImage, missing: str) -> None:
    refused = run_once(app_image("api"), options=env(API_ENV | {missing: ""}))
    assert refused.returncode != 0
    assert missing in refused.stderr


def test_api_has_bash_with_dev_tcp_but_no_curl_and_no_wget(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend, options=DROP_ALL) as (api, address):
        wait_for(address, "/health", port=8080)
        assert api.exec("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080").returncode == 0
        assert not has(api, "curl")
        assert not has(api, "wget")


def test_api_of_alpine_has_busybox_wget_but_no_bash_and_no_curl(app_image: AppImage, backend: str) -> None:
    with application(app_image("api-alpine"), backend, options=DROP_ALL) as (api, address):
        wait_for(address, "/health", port=8080)
        assert api.exec("wget", "-qO-", "http://127.0.0.1:8080/health").stdout == "Healthy"
        assert not has(api, "bash")
        assert not has(api, "curl")


def test_api_chiseled_has_no_shell_unless_its_dockerfile_brings_one(
    app_image: AppImage, image: Image, backend: str
) -> None:
    chiseled = app_image("api-chiseled")
    with application(chiseled, backend, options=DROP_ALL) as (api, address):
        wait_for(address, "/health", port=8080)
        for program in ("sh", "bash", "/bin/busybox", "/usr/bin/busybox"):
            assert api.exec(program, check=False).returncode != 0
    busybox = f"COPY --from={image('alpine')} /bin/busybox /usr/bin/busybox"
    with application(images.derive(chiseled, "api-chiseled-busybox:1", busybox), backend) as (api, address):
        wait_for(address, "/health", port=8080)
        assert api.exec("busybox", "wget", "-qO-", "http://127.0.0.1:8080/health").stdout == "Healthy"


def test_api_runs_as_app_uid_unless_its_dockerfile_forgets_to(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend, options=(*DROP_ALL, "--read-only", "--tmpfs", "/tmp")) as (_, address):
        wait_for(address, "/health", port=8080)
        me = ask(address, "/whoami").data
        assert (me["uid"], me["readonly_root"]) == (1654, True)
        assert me["writable"] == {"/": False, "/app": False, "/tmp": True}
        assert int(me["kernel"]["CapBnd"], 16) == 0
        assert me["kernel"]["NoNewPrivs"] == "1"
    with application(app_image("api", user="0"), backend) as (_, address):
        wait_for(address, "/health", port=8080)
        assert ask(address, "/whoami").data["uid"] == 0


def test_api_listens_where_it_is_told(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend, ASPNETCORE_URLS="http://+:9000") as (_, address):
        assert wait_for(address, "/health", port=9000).status == 200


def test_api_on_sigterm_refuses_new_connections_and_finishes_what_it_began(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend) as (api, address):
        wait_for(address, "/health", port=8080)
        answers: list[Answer] = []
        slow = threading.Thread(target=lambda: answers.append(ask(address, "/slow?seconds=4")))
        slow.start()
        time.sleep(1)
        run("docker", "kill", "--signal", "TERM", api.id)
        time.sleep(0.5)
        with pytest.raises(OSError, match="refused"):
            ask(address, "/health")
        slow.join(timeout=20)
        assert [answer.status for answer in answers] == [200]
        run("docker", "wait", api.id, timeout=10)
        assert api.facts["State"]["ExitCode"] == 0


def test_api_limits_a_body_as_kestrel_does(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend) as (_, address):
        wait_for(address, "/health", port=8080)
        assert ask(address, "/big", method="POST", body=b"x" * 30_000_000).data == {"bytes": 30_000_000}
        assert ask(address, "/big", method="POST", body=b"x" * 30_000_001).status == 413


def test_api_upgrades_to_a_websocket_and_echoes(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend) as (_, address):
        wait_for(address, "/health", port=8080)
        with socket.create_connection((address, 8080), timeout=5) as connection:
            connection.sendall(
                b"GET /ws HTTP/1.1\r\nHost: api\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2xpcHdheS1sYWItMTIzNA==\r\n\r\n"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
            connection.sendall(bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi")  # a masked text frame, masked with zeros
            assert connection.recv(64) == bytes([0x81, 2]) + b"hi"


def test_faults_can_be_built_into_an_api(app_image: AppImage, backend: str) -> None:
    with application(app_image("api", behaviour="never-healthy"), backend) as (_, address):
        wait_for(address, "/health", port=8080, status=503)
        assert ask(address, "/").status == 200
    with application(app_image("api", behaviour="smoke-fails start-seconds=2"), backend) as (_, address):
        with pytest.raises(OSError, match="refused"):
            ask(address, "/health")
        wait_for(address, "/health", port=8080)
        assert ask(address, "/").status == 500
    with application(app_image("api", behaviour="unhealthy-after=2"), backend) as (_, address):
        wait_for(address, "/health", port=8080)
        wait_for(address, "/health", port=8080, status=503)


def test_worker_has_a_heartbeat_and_an_endpoint(app_image: AppImage, backend: str) -> None:
    with application(app_image("worker"), backend) as (worker, address):
        wait_for(address, "/health", port=8080)
        assert worker.exec("test", "-s", "/tmp/heartbeat").returncode == 0
        assert ask(address, "/items").status == 404
        assert worker.stop() < 8
        assert worker.facts["State"]["ExitCode"] == 0


# ----- Front ends ---------------------------------------------------------------------------------------------------


@contextmanager
def front_end(image: str, net: str, options: tuple[str, ...] = (), **variables: str) -> Iterator[tuple[Container, str]]:
    """A running front end, and its address."""
    settings = {"HOSTNAME": "0.0.0.0", "API_BASE_URL": "http://api:8080"} | variables
    with started(image, options=("--network", net, *env(settings), *options)) as container:
        yield container, container.address(net)


def test_web_renders_its_page_with_the_api_and_fails_without(app_image: AppImage, backend: str) -> None:
    with front_end(app_image("web", "3", name="admin"), backend) as (_, address):
        wait_for(address, "/api/health", port=3000)
        assert fetch(address, port=3000).status == 500
        with application(app_image("api", "7"), backend, options=("--network-alias", "api")):
            page = wait_for(address, port=3000).text
        assert 'data-app="admin" data-version="3"' in page
        assert '"version":"7"' in page


def test_web_serves_hashed_assets_that_another_build_does_not_have(app_image: AppImage, backend: str) -> None:
    with application(app_image("api"), backend, options=("--network-alias", "api")), ExitStack() as both:
        addresses = [both.enter_context(front_end(app_image("web", version), backend))[1] for version in ("1", "2")]
        found = [re.search(r'src="([^"]+)"', wait_for(each, port=3000).text) for each in addresses]
        old, new = (match[1] for match in found if match)
        assert old != new
        asset = fetch(addresses[0], old, port=3000)
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert fetch(addresses[1], old, port=3000).status == 404


def test_web_listens_on_the_containers_own_address_unless_hostname_is_set(app_image: AppImage, backend: str) -> None:
    check = ("node", "-e", "fetch('http://127.0.0.1:3000/api/health').then(() => 0, () => process.exit(1))")
    with started(app_image("web"), options=("--network", backend)) as web:
        wait_for(web.address(backend), "/api/health", port=3000)
        assert web.exec(*check, check=False).returncode == 1
    with front_end(app_image("web"), backend) as (web, address):
        wait_for(address, "/api/health", port=3000)
        assert web.exec(*check).returncode == 0


def test_web_runs_as_node_without_curl_and_wget(app_image: AppImage, backend: str) -> None:
    options = (*DROP_ALL, "--read-only")
    with front_end(app_image("web"), backend, options=options) as (web, address):
        wait_for(address, "/api/health", port=3000)
        info = fetch(address, "/api/info", port=3000).data
        assert info["uid"] == 1000
        assert info["cacheError"], "a read-only root has no writable .next/cache"
        assert not has(web, "curl")
        assert not has(web, "wget")
        assert web.exec("node", "--version").stdout.startswith("v24.")


@pytest.mark.parametrize(("milliseconds", "announced"), [("", "timeout=5"), ("130000", "timeout=130")])
def test_web_keeps_connections_as_long_as_it_is_told(
    app_image: AppImage, backend: str, milliseconds: str, announced: str
) -> None:
    with front_end(app_image("web"), backend, KEEP_ALIVE_TIMEOUT=milliseconds) as (_, address):
        assert wait_for(address, "/api/health", port=3000).headers["keep-alive"] == announced


def test_web_on_sigterm_finishes_what_it_began(app_image: AppImage, backend: str) -> None:
    with front_end(app_image("web"), backend) as (web, address):
        wait_for(address, "/api/health", port=3000)
        answers: list[Answer] = []
        slow = threading.Thread(target=lambda: answers.append(fetch(address, "/slow?seconds=3", port=3000)))
        slow.start()
        time.sleep(1)
        run("docker", "kill", "--signal", "TERM", web.id)
        time.sleep(0.5)
        with pytest.raises(OSError, match="refused"):
            fetch(address, "/api/health", port=3000)
        slow.join(timeout=20)
        assert [answer.status for answer in answers] == [200]


# ----- Registry -----------------------------------------------------------------------------------------------------


def test_two_versions_have_two_digests_and_can_be_pulled_by_them(app_image: AppImage, registry: Registry) -> None:
    one, two = (registry.push(app_image("api", version), "shop/api", version) for version in ("1", "2"))
    assert re.fullmatch(r"localhost:\d+/shop/api@sha256:[0-9a-f]{64}", one)
    assert one != two
    run("docker", "image", "rm", one)
    assert run("docker", "pull", "--quiet", one).stdout.strip() == one
    run("docker", "image", "rm", one, two)
