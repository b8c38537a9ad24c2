"""The files themselves: valid for their programs for any number of front ends, and in step with the Compose file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy import programs
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRONTS = {"none": [], "one": ["web"], "three": ["web", "admin", "back-office"]}


@pytest.fixture(scope="module", params=FRONTS)
def fronts(request: pytest.FixtureRequest) -> list[str]:
    """The front ends of a project."""
    return FRONTS[request.param]


@pytest.fixture(scope="module")
def caddy_infra(fronts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The infra/ folder of a project with Caddy."""
    return programs.render(tmp_path_factory.mktemp("caddy"), proxy="caddy", frontends=" ".join(fronts))


@pytest.fixture(scope="module")
def nginx_infra(fronts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The infra/ folder of a project with nginx."""
    return programs.render(tmp_path_factory.mktemp("nginx"), proxy="nginx", frontends=" ".join(fronts))


def caddy(command: str, infra: Path, fronts: list[str], *options: str) -> tuple[str, str]:
    """Run a subcommand of Caddy on the Caddyfile; return what it printed."""
    variables = {**programs.environment(fronts), "XDG_DATA_HOME": str(infra), "XDG_CONFIG_HOME": str(infra)}
    program = require("caddy", version_args=["version"])
    done = run([program, command, "--config", infra / "Caddyfile", *options], env=variables)
    return done.stdout, done.stderr


def nginx_test(infra: Path, fronts: list[str], folder: Path, *, www_redirect: bool = True) -> str:
    """Let nginx check nginx.conf, with a certificate in place of the ACME module; return what it printed."""
    nginx = require("nginx", version="1.29.7", version_args=["-v"])
    text = (infra / "nginx.conf").read_text(encoding="utf-8")
    for name, value in programs.environment(fronts).items():
        text = text.replace(f"${{{name}}}", value)
    text = programs.without_acme(text, folder, sites=1 + len(fronts) + (bool(fronts) and www_redirect))
    sites = 1 + len(fronts)
    text = programs.exchange(text, "/etc/nginx/proxy/", f"{infra}/", 1 + 2 * sites + len(fronts) + sites + 1)
    text = programs.exchange(text, "root /etc/nginx/proxy", f"root {infra}", sites)
    text = programs.exchange(text, "^pid .*", f"pid {folder}/nginx.pid;", 1)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    return run([nginx, "-t", "-c", folder / "nginx.conf"]).stderr


def nodes(value: object) -> Iterator[dict[str, Any]]:
    """Walk through every object of a JSON document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from nodes(part)


class TestCaddyfile:
    """What Caddy itself says about the Caddyfile."""

    def test_it_is_formatted(self, caddy_infra: Path) -> None:
        program = require("caddy", version_args=["version"])
        text = (caddy_infra / "Caddyfile").read_text(encoding="utf-8")
        assert run([program, "fmt", caddy_infra / "Caddyfile"], check=False).stdout == text

    def test_it_is_valid_without_a_warning_but_for_missing_files_of_the_project(
        self, caddy_infra: Path, fronts: list[str]
    ) -> None:
        printed = "".join(caddy("validate", caddy_infra, fronts))
        assert "Valid configuration" in printed
        lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        warnings = [line for line in lines if line["level"] != "info"]
        assert {line["msg"] for line in warnings} == {"No files matching import glob pattern"}
        places = {f"custom/caddy/{place}.*caddy" for place in ("api", "other_sites", *fronts)}
        assert {line["pattern"] for line in warnings} == places

    def test_the_projects_own_files_become_part_of_it(self, tmp_path: Path) -> None:
        infra = programs.render(tmp_path, proxy="caddy", frontends="web")
        (infra / "custom/caddy").mkdir()
        (infra / "custom/caddy/web.caddy").write_text("redir /old /new 308\n")
        (infra / "custom/caddy/other_sites.caddy").write_text("docs.test {\n\timport public\n\trespond docs\n}\n")
        adapted = caddy("adapt", infra, ["web"])[0]
        assert '"Location":["/new"]' in adapted
        assert '"host":["docs.test"]' in adapted

    def test_every_slot_is_tried_and_watched_in_the_same_way(self, caddy_infra: Path, fronts: list[str]) -> None:
        adapted = json.loads(caddy("adapt", caddy_infra, fronts)[0])
        handlers = [node for node in nodes(adapted) if node.get("handler") == "reverse_proxy"]
        found: dict[str, int] = {}
        for handler in handlers:
            dials = [upstream["dial"] for upstream in handler["upstreams"]]
            service, first, port = re.fullmatch(r"(.+)-(blue|green):(\d+)", dials[0]).groups()  # type: ignore[union-attr]
            second = next(colour for colour in programs.COLOURS if colour != first)
            assert dials[1:] == [f"{service}-{second}:{port}"]
            found[f"{service} {first}"] = found.get(f"{service} {first}", 0) + 1
            assert handler["load_balancing"]["selection_policy"] == {"policy": "first"}
            assert handler["health_checks"].keys() == {"active"}, "passive checks count failures of clients"
            assert handler["health_checks"]["active"]["uri"] == ("/health" if service == "api" else "/api/health")
            assert handler["transport"]["keep_alive"] == {"enabled": False}
        wanted = {"api": 2, **dict.fromkeys(fronts, 1)}
        assert found == {f"{name} {colour}": count for name, count in wanted.items() for colour in programs.COLOURS}

    def test_certificates_come_from_the_directory_of_the_environment(
        self, caddy_infra: Path, fronts: list[str]
    ) -> None:
        adapted = json.loads(caddy("adapt", caddy_infra, fronts)[0])
        [policy] = adapted["apps"]["tls"]["automation"]["policies"]
        assert policy["issuers"] == [{"module": "acme", "ca": "https://acme.test/directory", "email": "ops@shop.test"}]

    def test_it_reads_what_the_service_gets(self, caddy_infra: Path, fronts: list[str]) -> None:
        text = (caddy_infra / "Caddyfile").read_text(encoding="utf-8")
        read = set(re.findall(r"\{\$(\w+)\}", text))
        service = programs.proxy_service(caddy_infra)
        assert read == set(service["environment"]) == set(programs.environment(fronts))


class TestNginxConf:
    """What nginx itself says about nginx.conf."""

    def test_it_is_valid_without_a_warning(self, nginx_infra: Path, fronts: list[str], tmp_path: Path) -> None:
        printed = nginx_test(nginx_infra, fronts, tmp_path)
        assert "syntax is ok" in printed
        assert "warn" not in printed

    def test_the_projects_own_files_become_part_of_it(self, tmp_path: Path) -> None:
        infra = programs.render(tmp_path / "rendered", proxy="nginx", frontends="web")
        (infra / "custom/nginx").mkdir()
        for name, text in {
            "web": "location = /old { return 308 /new; }",
            "other_sites": "server { listen 81; }",
        }.items():
            (infra / f"custom/nginx/{name}.conf").write_text(text)
        assert "syntax is ok" in nginx_test(infra, ["web"], tmp_path)
        (infra / "custom/nginx/web.conf").write_text("no directive")
        with pytest.raises(AssertionError, match=r"custom/nginx/web\.conf"):
            nginx_test(infra, ["web"], tmp_path)

    def test_every_variable_is_replaced_and_no_other(self, nginx_infra: Path, fronts: list[str]) -> None:
        text = (nginx_infra / "nginx.conf").read_text(encoding="utf-8")
        names = [re.sub(r"^\s*#.*", "", line) for line in text.splitlines()]
        read = set(re.findall(r"\$\{(\w+)\}", "\n".join(names)))
        service = programs.proxy_service(nginx_infra)
        assert read == set(service["environment"]) == set(programs.environment(fronts))
        assert read == set(programs.substituted_names(nginx_infra))


@pytest.mark.parametrize("proxy", programs.PROXIES)
def test_requests_in_flight_end_before_docker_kills_the_proxy(proxy: str, tmp_path: Path) -> None:
    infra = programs.render(tmp_path, proxy=proxy)
    pattern = {"caddy": r"grace_period (\d+)s", "nginx": r"worker_shutdown_timeout (\d+)s"}[proxy]
    [grace] = re.findall(pattern, (infra / {"caddy": "Caddyfile", "nginx": "nginx.conf"}[proxy]).read_text())
    assert int(grace) < int(programs.proxy_service(infra)["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("proxy", programs.PROXIES)
def test_only_the_chosen_proxy_is_generated(proxy: str, tmp_path: Path) -> None:
    infra = programs.render(tmp_path, proxy=proxy, frontends="web admin")
    found = {str(path.relative_to(infra)) for path in infra.rglob("*") if path.is_file()}
    file = {"caddy": "Caddyfile", "nginx": "nginx.conf"}[proxy]
    assert {name for name in found if re.search("caddy|nginx|Caddy", name)} == {file, f"custom/services/{proxy}.yml"}


@pytest.mark.parametrize("proxy", programs.PROXIES)
def test_without_www_there_is_no_redirect(proxy: str, tmp_path: Path) -> None:
    infra = programs.render(tmp_path / "rendered", proxy=proxy, www_redirect=False)
    file = infra / {"caddy": "Caddyfile", "nginx": "nginx.conf"}[proxy]
    assert "www." not in file.read_text(encoding="utf-8")
    if proxy == "caddy":
        assert "Valid configuration" in "".join(caddy("validate", infra, ["web"]))
    else:
        assert "syntax is ok" in nginx_test(infra, ["web"], tmp_path, www_redirect=False)
