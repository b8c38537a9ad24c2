"""Renders the proxies' files and runs the real programs with them.

What a test machine has not got is exchanged, and nothing else: ports, the addresses of the slots, certificates from an
authority. Each exchange says how often it must happen, so that a change of a file cannot silently escape the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import yaml
from copier import run_copy

from tests.profiles import REQUIRED
from tests.proxy.slot import Slot, wait_until
from tests.tooling import REPO, require, run, search_path

COLOURS = ("blue", "green")
PROXIES = ("caddy", "nginx")
MAX_REQUEST_SIZE = 10_000

NOTICED = {"caddy": 0.8, "nginx": 2.5}
"""Seconds after which a proxy knows that a slot has started: Caddy checks its health, nginx asks for its name."""

Content = bytes | Iterable[bytes] | None
"""A request's body: given as an iterable it is sent in chunks, without its length."""


def hostnames(fronts: list[str]) -> dict[str, str]:
    """Give the variables that hold host names, as in a server's .env."""
    names = {"API_HOSTNAME": "api.shop.test"}
    for front in fronts:
        names[f"{front.upper().replace('-', '_')}_HOSTNAME"] = "shop.test" if front == "web" else f"{front}.shop.test"
    return names


def environment(fronts: list[str]) -> dict[str, str]:
    """Give everything that the proxy's service gets in the Compose file."""
    return {
        **hostnames(fronts),
        "ACME_EMAIL": "ops@shop.test",
        "ACME_DIRECTORY": "https://acme.test/directory",
        "MAX_REQUEST_SIZE": str(MAX_REQUEST_SIZE),
    }


def render(destination: Path, **answers: object) -> Path:
    """Render the infra/ folder of a project and return it."""
    stage = destination / "template"
    stage.mkdir(parents=True)
    shutil.copy(REPO / "copier.yml", stage)
    shutil.copytree(REPO / "extensions", stage / "extensions", ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("custom", "docker-compose.prod.yml.jinja", *(p.name for p in proxy_templates())):
        source, target = REPO / "template/infra" / part, stage / "template/infra" / part
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    project = destination / "project"
    run_copy(str(stage), project, data={**REQUIRED, **answers}, defaults=True, unsafe=True, quiet=True, skip_tasks=True)
    return project / "infra"


def proxy_templates() -> list[Path]:
    """Find the two files that hold the proxies' settings."""
    found = [path for path in (REPO / "template/infra").iterdir() if re.search("Caddyfile|nginx.conf", path.name)]
    assert len(found) == 2
    return found


def proxy_service(infra: Path) -> dict[str, Any]:
    """Read the proxy's service out of the Compose file."""
    services = yaml.safe_load((infra / "docker-compose.prod.yml").read_text(encoding="utf-8"))["services"]
    return dict(services.get("caddy") or services["nginx"])


def substituted_names(infra: Path) -> list[str]:
    """List the variables that the service nginx lets envsubst replace, as its command says."""
    command = " ".join(proxy_service(infra)["command"])
    listed = re.search(r"envsubst '([^']*)'", command)
    assert listed, command
    return [name.removeprefix("$$") for name in listed[1].split()]


def exchange(text: str, pattern: str, replacement: str, count: int) -> str:
    """Replace what a test machine has not got, exactly `count` times."""
    text, done = re.subn(pattern, lambda match: match.expand(replacement), text, flags=re.MULTILINE)
    assert done == count, f"{pattern!r} was found {done} times instead of {count}"
    return text


def free_ports(number: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
    ports = [int(found.getsockname()[1]) for found in sockets]
    for found in sockets:
        found.close()
    return ports


class Names(socketserver.ThreadingUDPServer):
    """Docker's name server: knows the containers that run (here: the slots that are started), by A record."""

    daemon_threads = True

    def __init__(self, slots: dict[str, Slot]) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.slots = slots
        self.port = int(self.server_address[1])
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Query(socketserver.BaseRequestHandler):
    server: Names

    def handle(self) -> None:
        data, reply_socket = self.request
        labels, position = [], 12
        while size := data[position]:
            labels.append(data[position + 1 : position + 1 + size].decode())
            position += 1 + size
        question = data[12 : position + 5]
        slot = self.server.slots.get(".".join(labels))
        known = slot is not None and slot.running
        flags, answers = (0x8180, 1) if known else (0x8183, 0)
        reply = data[:2] + b"".join(n.to_bytes(2) for n in (flags, 1, answers, 0, 0)) + question
        if known:
            reply += b"\xc0\x0c\x00\x01\x00\x01" + (600).to_bytes(4) + b"\x00\x04" + socket.inet_aton("127.0.0.1")
        reply_socket.sendto(reply, self.client_address)


@cache
def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for some names."""
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    openssl = require("openssl", version_args=["version"])
    kind = [
        "-x509",
        "-nodes",
        "-days",
        "2",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=test",
    ]
    alternatives = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
    run([openssl, "req", *kind, "-keyout", key_file, "-out", certificate_file, "-addext", alternatives])
    return certificate_file, key_file


@dataclass
class Proxy:
    """A running proxy with the slots behind it."""

    program: str
    http: int
    https: int
    internal: int
    slots: dict[str, Slot]
    output: Path
    """What the program prints: its log."""
    process: subprocess.Popen[bytes]
    folder: Path
    """What is mounted as the proxy's folder on a server."""
    _clients: dict[tuple[str, bool], httpx.Client] = field(default_factory=dict)

    def request(
        self,
        method: str,
        host: str,
        path: str,
        *,
        http2: bool = False,
        headers: dict[str, str] | None = None,
        content: Content = None,
    ) -> httpx.Response:
        """Send a request to a site, by HTTPS."""
        # A client for each site: httpx would use a connection to one for the other, since both have the same address.
        if (host, http2) not in self._clients:
            self._clients[host, http2] = self.client(http2=http2)
        return self._clients[host, http2].request(
            method,
            f"https://127.0.0.1:{self.https}{path}",
            headers={"Host": host, **(headers or {})},
            content=content,
            extensions={"sni_hostname": host},
        )

    def get(
        self, host: str, path: str, *, http2: bool = False, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a GET request to a site, by HTTPS."""
        return self.request("GET", host, path, http2=http2, headers=headers)

    def client(self, *, http2: bool = False) -> httpx.Client:
        """Make a client that accepts the self-signed certificate and sends nothing of its own accord."""
        client = httpx.Client(verify=False, http1=not http2, http2=http2, timeout=20, trust_env=False)  # noqa: S501
        client.headers.clear()
        return client

    def tls(self, host: str) -> ssl.SSLSocket:
        """Open a bare TLS connection to a site."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.https), timeout=20), server_hostname=host
        )

    def log(self, path: str) -> dict[str, Any]:
        """Wait for the access log's line about a path."""
        lines: list[dict[str, Any]] = []

        def logged() -> bool:
            lines[:] = [line for line in self.access_log() if line["request"]["uri"] == path]
            return bool(lines)

        wait_until(logged)
        assert len(lines) == 1
        return lines[0]

    def access_log(self) -> list[dict[str, Any]]:
        """Read the access log; lines of other loggers are left out."""
        lines = [line for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, lines) if str(line.get("logger", "")).startswith("http.log.access")]

    def start_slots(self, *names: str) -> None:
        """Let exactly these slots run, and wait until the proxy knows."""
        changed = [slot for name, slot in self.slots.items() if name in names and not (slot.running and slot.healthy)]
        for name, slot in self.slots.items():
            slot.set_healthy(True)
            if name in names:
                slot.start()
            else:
                slot.stop()
        if changed:
            time.sleep(NOTICED[self.program])
        for site, service in {"api.shop.test": "api", "shop.test": "web"}.items():
            if any(name.startswith(service) for name in names):
                wait_until(partial(self.serves, site))

    def serves(self, host: str) -> bool:
        """Tell whether a site answers."""
        try:
            return self.get(host, "/page").status_code == 200
        except httpx.TransportError:  # Caddy's certificate is not there at once.
            return False

    def stop(self) -> None:
        """Stop the program as Docker does, and everything else."""
        for client in self._clients.values():
            client.close()
        self.process.terminate()
        for slot in self.slots.values():
            slot.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def start(program: str, folder: Path) -> Proxy:
    """Render a project with one front end and start its proxy, no slot running yet."""
    infra = render(folder, proxy=program)
    variables = environment(["web"])
    http, https, internal, *ports = free_ports(7)
    names = [f"{service}-{colour}" for service in ("api", "web") for colour in COLOURS]
    slots = {name: Slot(name, port) for name, port in zip(names, ports, strict=True)}
    listen = {80: http, 443: https, 8080: internal}
    make = {"caddy": caddy_command, "nginx": nginx_command}[program]
    command = make(infra, folder, variables, listen, slots)
    output = folder / "output.log"
    with output.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env={
                **os.environ,
                **variables,
                "PATH": search_path(),
                "XDG_DATA_HOME": str(folder),
                "XDG_CONFIG_HOME": str(folder),
            },
        )
    proxy = Proxy(program, http, https, internal, slots, output, process, infra)

    def ready() -> bool:
        assert process.poll() is None, output.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", https)) == 0

    wait_until(ready)
    return proxy


def caddy_command(
    infra: Path, folder: Path, variables: dict[str, str], listen: dict[int, int], slots: dict[str, Slot]
) -> list[str | Path]:
    """Let Caddy read the Caddyfile, exchange ports, slots and authority, and give the command that runs the result."""
    caddy = require("caddy", version_args=["version"])
    adapted = run([caddy, "adapt", "--config", infra / "Caddyfile"], env=variables)
    # The maintenance page of each site, asked for and served, and the kept assets.
    text = exchange(adapted.stdout, '"/etc/caddy(/static/web)?"', rf'"{infra}\1"', adapted.stdout.count('"/etc/caddy'))
    for name, slot in slots.items():
        port = 8080 if name.startswith("api") else 3000
        # The API's slots are behind the public site and behind the internal listener, each in both orders.
        text = exchange(text, f'"dial":"{name}:{port}"', f'"dial":"127.0.0.1:{slot.port}"', 4 if port == 8080 else 2)
    text = exchange(text, '"listen":\\[":443"\\]', f'"listen":["127.0.0.1:{listen[443]}"]', 1)
    text = exchange(text, '"listen":\\[":8080"\\]', f'"listen":["127.0.0.1:{listen[8080]}"]', 1)
    configuration = json.loads(text)
    configuration["apps"]["http"] |= {"http_port": listen[80], "https_port": listen[443]}
    automation = configuration["apps"]["tls"]["automation"]
    for policy in automation["policies"]:
        assert [issuer["module"] for issuer in policy["issuers"]] == ["acme"]
        policy["issuers"] = [{"module": "internal"}]
    configuration["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    configuration["admin"] = {"disabled": True}
    file = folder / "caddy.json"
    file.write_text(json.dumps(configuration))
    return [caddy, "run", "--config", file]


def nginx_command(
    infra: Path, folder: Path, variables: dict[str, str], listen: dict[int, int], slots: dict[str, Slot]
) -> list[str | Path]:
    """Exchange ports, name server, folders and the ACME module in nginx.conf, and give the service's own command."""
    require("nginx", version="1.29.7", version_args=["-v"])
    require("envsubst")
    assert variables.keys() == set(substituted_names(infra))
    text = without_acme((infra / "nginx.conf").read_text(encoding="utf-8"), folder, sites=3)
    for port, other in listen.items():
        lines = {80: 1, 443: 2 + 2 * 3, 8080: 1}[port]
        text = exchange(text, rf"^( +listen) {port}( ssl| quic reuseport| quic)?\b", rf"\1 127.0.0.1:{other}\2", lines)
    for name, slot in slots.items():
        text = exchange(text, rf"\bserver {name}:(8080|3000) ", f"server {name}:{slot.port} ", 2)
    text = exchange(text, r"resolver 127\.0\.0\.11 ", f"resolver 127.0.0.1:{Names(slots).port} ", 1)
    # Own settings of two sites and others, kept assets; the maintenance page of two sites; the slot of three.
    text = exchange(text, "/etc/nginx/proxy/", f"{infra}/", 4 + 2 + 3)
    text = exchange(text, "root /etc/nginx/proxy", f"root {infra}", 2)
    text = exchange(text, "^pid .*", f"pid {folder}/nginx.pid;", 1)
    if os.geteuid() == 0:  # only root may pass by the folders of the tests
        text = f"user root;\n{text}"
    (infra / "nginx.conf").write_text(text, encoding="utf-8")
    *shell, script = proxy_service(infra)["command"]
    script = exchange(script, "/etc/nginx/proxy/", f"{infra}/", 1)
    script = exchange(script, "/run/nginx.conf", f"{folder}/nginx.conf", 2)
    return [*shell, script.replace("$$", "$")]


def without_acme(text: str, folder: Path, *, sites: int) -> str:
    """Exchange the ACME module, which only the official image has, for a certificate in the same variables."""
    names = ["api.shop.test", "shop.test", "www.shop.test"]
    certificate_file, key_file = certificate(folder, *names)
    # The module's variables hold the certificate itself, too.
    variables = f'map x $acme_certificate {{ default "data:{certificate_file.read_text()}"; }}\n'
    variables += f'  map x $acme_certificate_key {{ default "data:{key_file.read_text()}"; }}\n'
    # The folders that the official image writes to.
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        variables += f"  {kind}_temp_path {folder}/{kind};\n"
    text = exchange(text, r"^load_module modules/ngx_http_acme_module\.so;\n", "", 1)
    text = exchange(text, r"^  acme_issuer default \{\n(?:    .*\n)+?  \}\n", f"  {variables}", 1)
    text = exchange(text, r"^    acme_certificate default;\n", "", sites)
    assert text.count("ssl_certificate $acme_certificate;") == sites
    assert text.count("ssl_certificate_key $acme_certificate_key;") == sites
    return text
