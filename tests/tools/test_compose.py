"""The Compose file as Compose itself understands it, for every combination of answers."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests import answers, profiles
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMBINATIONS = list(profiles.combinations_by_name())
SLOTS = ("blue", "green")


def base_command(environment: Path | str) -> list[str]:
    """Begin a Compose command on a project's file with an environment file."""
    require("docker-compose", version="2.24", version_args=["version"])
    return ["docker", "compose", "--env-file", str(environment), "-f", "infra/docker-compose.prod.yml"]


def compose(project: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """Read the Compose file with the fixture of the checks and return what Compose makes of it."""
    base = base_command("infra/check.env")
    told = run(
        [*base, *arguments, "config", "--format", "json"], cwd=project, env={"COMPOSE_PROFILES": "blue", **variables}
    )
    assert told.stderr == "", "Compose warns"
    model: dict[str, Any] = json.loads(told.stdout)
    return model


@pytest.fixture(scope="module", params=COMBINATIONS)
def project(request: pytest.FixtureRequest, rendered: Callable[[str], Path]) -> Path:
    """One project for each combination of answers."""
    return rendered(request.param)


@pytest.fixture(scope="module")
def everything(project: Path, shared: Callable[[str, Callable[[Path], object]], Path]) -> dict[str, Any]:
    """All services, those in profiles included."""

    def ask(file: Path) -> None:
        file.write_text(json.dumps(compose(project, "--profile", "*")), encoding="utf-8")

    model: dict[str, Any] = json.loads(shared(f"compose/{project.name}.json", ask).read_text(encoding="utf-8"))
    return model


@pytest.fixture(scope="module")
def services(everything: dict[str, Any]) -> dict[str, Any]:
    """The services by name."""
    found: dict[str, Any] = everything["services"]
    return found


@pytest.fixture(scope="module")
def recorded(project: Path) -> dict[str, Any]:
    """The answers."""
    found = answers.recorded(project)
    found.setdefault("database", "container")
    return found


def one_shot(name: str) -> bool:
    """Tell the services that end by themselves."""
    return name in {"archive", "migrate", "roles"}


def http_services(recorded: dict[str, Any]) -> list[str]:
    """Name the services that have two slots."""
    return ["api", *answers.front_ends(recorded)]


def test_the_services_are_those_that_the_answers_need(services: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert services.keys() == {
        *(f"{name}-{slot}" for name in http_services(recorded) for slot in SLOTS),
        *(["worker"] if recorded["worker"] else []),
        *(["postgres"] if recorded["database"] == "container" else []),
        recorded["proxy"],
        "migrate",
        "roles",
        *(["archive"] if recorded["backup_method"] == "pgbackrest" else []),
    }


@pytest.mark.parametrize("slot", SLOTS)
def test_the_slot_that_does_not_run_is_absent(project: Path, recorded: dict[str, Any], slot: str) -> None:
    running = compose(project, COMPOSE_PROFILES=slot)["services"]
    other = SLOTS[1 - SLOTS.index(slot)]
    assert {name for name in running if name.endswith(("-blue", "-green"))} == {
        f"{name}-{slot}" for name in http_services(recorded)
    }
    assert not running.keys() & {"archive", "migrate", "roles", f"api-{other}"}
    assert recorded["proxy"] in running


def test_the_two_slots_differ_in_nothing_but_the_profile(services: dict[str, Any], recorded: dict[str, Any]) -> None:
    for name in http_services(recorded):
        blue, green = (dict(services[f"{name}-{slot}"]) for slot in SLOTS)
        assert (blue.pop("profiles"), green.pop("profiles")) == (["blue"], ["green"])
        assert blue == green


def test_the_project_keeps_its_name(everything: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert everything["name"] == recorded["compose_project"]


def test_only_the_proxy_publishes_ports_and_exactly_three(services: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if service.get("ports")} == {recorded["proxy"]}
    ports = services[recorded["proxy"]]["ports"]
    found = {(port["published"], port["target"], port["protocol"], port.get("host_ip", "")) for port in ports}
    assert found == {("80", 80, "tcp", ""), ("443", 443, "tcp", ""), ("443", 443, "udp", "")}
    assert not any(service.get("network_mode") or service.get("privileged") for service in services.values())


CAPABILITIES = {
    "caddy": ["NET_BIND_SERVICE"],
    "nginx": ["CHOWN", "DAC_OVERRIDE", "NET_BIND_SERVICE", "SETGID", "SETUID"],
    "postgres": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
}


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == CAPABILITIES.get(name, []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service.get("tmpfs"), name
        assert "container_name" not in service, name
        if name not in CAPABILITIES:
            user, _, group = service["user"].partition(":")
            assert int(user) > 0, name
            assert int(group) > 0, name


def test_every_service_has_limits_log_rotation_and_a_restart_policy(services: dict[str, Any]) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0, name
        assert int(limits["memory"]) >= 64 * 1024**2, name
        assert 0 < limits["pids"] <= 1024, name
        assert service["logging"]["driver"] == "json-file", name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if one_shot(name) else "unless-stopped"), name


def test_every_service_that_keeps_running_has_a_health_check(
    services: dict[str, Any], recorded: dict[str, Any]
) -> None:
    for name, service in services.items():
        if one_shot(name):
            continue
        check = service["healthcheck"]
        assert check.keys() >= {"test", "interval", "timeout", "retries", "start_period"}, name
        command = " ".join(check["test"])
        # None of these programs is in every official image.
        assert "curl" not in command, name
        if name.startswith("api-"):
            assert "/health" in command
            assert "8080" in command
            assert ("/dev/tcp" in command) == (recorded["dotnet_image"] == "ubuntu")
        elif name == "worker":
            assert ("/tmp/heartbeat" in command) == (recorded["worker_health"] == "heartbeat")
        elif name.endswith(("-blue", "-green")):
            assert "http://127.0.0.1:3000/api/health" in command


def test_every_service_gets_time_to_finish_its_requests(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if one_shot(name):
            continue
        seconds = sum(
            int(number) * {"m": 60, "s": 1}[unit]
            for number, unit in re.findall(r"(\d+)([ms])", service["stop_grace_period"])
        )
        # Kestrel drains for 30 seconds, Docker would kill it after 10.
        assert seconds >= 40, name


def test_internal_networks_have_no_way_out_and_only_who_needs_one_is_on_each(
    everything: dict[str, Any], services: dict[str, Any], recorded: dict[str, Any]
) -> None:
    managed = recorded["database"] == "managed"
    members = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in everything["networks"]
    }
    internal = {name for name, network in everything["networks"].items() if network.get("internal")}
    assert internal == ({"internal"} if managed else {"internal", "data"})
    archived = recorded["backup_method"] == "pgbackrest"
    assert members.get("archive", set()) == ({"archive", "postgres"} if archived else set())
    slots = {f"{name}-{slot}" for name in http_services(recorded) for slot in SLOTS}
    apis, workers = {"api-blue", "api-green"}, {"worker"} & services.keys()
    assert members["edge"] == {recorded["proxy"]}
    assert members["internal"] == slots | workers | {recorded["proxy"]}
    if not managed:
        assert members["data"] == apis | workers | {"postgres", "migrate", "roles"}
        assert sorted(services["postgres"]["networks"]) == (["archive", "data"] if archived else ["data"])
    wanted = {
        *(apis if managed or "api" in recorded["egress"] else set()),
        *(workers if managed or "worker" in recorded["egress"] else set()),
        *(slots - apis if "frontends" in recorded["egress"] else set()),
        *({"migrate", "roles"} if managed else set()),
    }
    assert members.get("egress", set()) == wanted


def test_front_ends_reach_the_api_through_the_proxy_under_one_name(
    services: dict[str, Any], recorded: dict[str, Any]
) -> None:
    assert services[recorded["proxy"]]["networks"]["internal"]["aliases"] == ["api"]
    for front in answers.front_ends(recorded):
        assert services[f"{front}-blue"]["environment"]["API_BASE_URL"] == "http://api:8080"


def test_the_volume_is_where_the_image_of_that_version_wants_it(
    everything: dict[str, Any], services: dict[str, Any], recorded: dict[str, Any]
) -> None:
    if recorded["database"] == "managed":
        assert "postgres_data" not in everything["volumes"]
        return
    volumes = {
        volume["source"]: volume["target"] for volume in services["postgres"]["volumes"] if volume["type"] == "volume"
    }
    place = "/var/lib/postgresql" if recorded["postgres_version"] >= 18 else "/var/lib/postgresql/data"
    assert volumes.pop("pgbackrest_config", "/etc/pgbackrest") == "/etc/pgbackrest"
    assert volumes == {"postgres_data": place}
    assert everything["volumes"]["postgres_data"]["name"] == f"{recorded['compose_project']}_postgres_data"


def test_the_application_connects_without_rights_on_the_schema_and_migrations_as_the_owner(
    services: dict[str, Any],
) -> None:
    for name in {"api-blue", "worker"} & services.keys():
        environment = services[name]["environment"]
        assert "Username=check_app;" in environment["ConnectionStrings__Database"]
        assert not {"POSTGRES_PASSWORD", "POSTGRES_OWNER_PASSWORD"} & environment.keys()
    text = json.dumps(services["migrate"]["environment"])
    assert "check_owner" in text
    assert "lock_timeout" in text


def test_no_secret_reaches_a_service_that_does_not_need_it(services: dict[str, Any], recorded: dict[str, Any]) -> None:
    secrets = {
        "JWT_SECRET",
        "JwtSettings__Secret",
        "POSTGRES_PASSWORD",
        "POSTGRES_OWNER_PASSWORD",
        "POSTGRES_APP_PASSWORD",
    }
    for name in [recorded["proxy"], *(f"{front}-blue" for front in answers.front_ends(recorded))]:
        assert not secrets & services[name]["environment"].keys(), name
        assert "ConnectionStrings__Database" not in services[name]["environment"], name


def test_every_image_comes_from_a_variable_and_is_given_by_digest(project: Path, services: dict[str, Any]) -> None:
    text = (project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8")
    images = re.findall(r"^\s+image: (.*)$", text, re.MULTILINE)
    assert images
    for image in images:
        assert re.fullmatch(r"\$\{[A-Z0-9_]+_IMAGE:\?is missing, it is the .+ image by digest\}", image), image
    assert all(re.search("@sha256:[0-9a-f]{64}$", service["image"]) for service in services.values())
    assert not any("build" in service for service in services.values())


# ----- Once is enough for what does not depend on the combination -------------------------------------------------


def fixture(project: Path) -> dict[str, str]:
    """Read the values that the checks use."""
    return dict(
        re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", (project / "infra/check.env").read_text(encoding="utf-8"), re.M)
    )


@pytest.mark.parametrize("name", ["everything", "managed-bundle", "default"])
def test_a_missing_variable_is_named_with_a_sentence(
    rendered: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    project = rendered(name)
    example = (project / ".env.example").read_text(encoding="utf-8")
    required = re.findall(r"^([A-Z][A-Z0-9_]*)=$", example, re.MULTILINE)
    assert len(required) > 10
    for missing in required:
        values = {key: value for key, value in fixture(project).items() if key != missing}
        (tmp_path / "env").write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
        base = base_command(tmp_path / "env")
        # Without COMPOSE_PROFILES in the environment: the line that a person types on the server.
        told = run([*base, "config", "--quiet"], cwd=project, check=False)
        assert told.returncode != 0, f"Compose does not miss {missing}"
        assert re.search(rf"{missing}\b.*: is missing", told.stderr), told.stderr


OVERRIDES = {
    "API_CPUS": ("api-blue", "cpus", "2.5", 2.5),
    "API_MEMORY": ("api-blue", "memory", "1g", str(1024**3)),
    "API_PIDS": ("api-blue", "pids", "99", 99),
    "WORKER_MEMORY": ("worker", "memory", "300m", str(300 * 1024**2)),
    "WEB_MEMORY": ("web-blue", "memory", "300m", str(300 * 1024**2)),
    "BACK_OFFICE_PIDS": ("back-office-green", "pids", "77", 77),
    "PROXY_MEMORY": ("nginx", "memory", "128m", str(128 * 1024**2)),
    "POSTGRES_MEMORY": ("postgres", "memory", "8g", str(8 * 1024**3)),
}


def test_limits_can_be_set_for_each_environment(rendered: Callable[[str], Path]) -> None:
    values = {name: value for name, (_, _, value, _) in OVERRIDES.items()}
    services = compose(rendered("everything"), "--profile", "*", **values)["services"]
    for service, kind, _, expected in OVERRIDES.values():
        assert services[service]["deploy"]["resources"]["limits"][kind] == expected


def test_a_password_with_a_dollar_sign_arrives_as_it_was_written(
    rendered: Callable[[str], Path], tmp_path: Path
) -> None:
    project = rendered("default")
    values = fixture(project) | {"POSTGRES_APP_PASSWORD": "'a$b${c}\"d'", "JWT_SECRET": "'x$$y'"}
    (tmp_path / "env").write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
    base = base_command(tmp_path / "env")
    told = run([*base, "config", "--format", "json", "--no-interpolate"], cwd=project)
    assert "a$b" not in told.stdout
    model = json.loads(run([*base, "config", "--format", "json"], cwd=project).stdout)
    environment = model["services"]["api-blue"]["environment"]
    # `config` doubles each dollar sign, so that what it prints can be read again.
    assert environment["ConnectionStrings__Database"].replace("$$", "$").endswith('Password=a$b${c}"d')
    assert environment["JwtSettings__Secret"].replace("$$", "$") in {"x$y", "x$$y"}


def test_services_of_the_projects_own_are_read_together_with_ours(
    rendered: Callable[[str], Path], tmp_path: Path
) -> None:
    project = shutil.copytree(rendered("default"), tmp_path / "project")
    (project / "infra/custom/compose.yml").write_text(
        "services:\n  cache:\n    image: ${CACHE_IMAGE:?is missing}\n    networks: [internal]\n"
        "networks:\n  internal:\n    internal: true\n",
        encoding="utf-8",
    )
    (project / "infra/custom/api.env").write_text("Smtp__Password=${SMTP_PASSWORD:?is missing}\n", encoding="utf-8")
    services = compose(project, CACHE_IMAGE="cache@sha256:" + "0" * 64, SMTP_PASSWORD="secret")["services"]
    assert "cache" in services
    assert services["api-blue"]["environment"]["Smtp__Password"] == "secret"
