"""Hetzner Cloud's firewalls: the part of its API that a deploy uses, in front of the laboratory's hosts.

Rules really are applied: to a table of the host's kernel that the host itself does not know of, before anything else
sees a packet. Requests that the real API would refuse are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.lab.hosts import Host
from tests.lab.web import Answer, Request, serve

FIELDS = {"direction", "protocol", "port", "source_ips", "destination_ips", "description"}
Rule = dict[str, Any]


def web_and_admins(admins: str) -> list[Rule]:
    """What the runbook orders: the web for everybody, SSH for the admin network."""
    world = ["0.0.0.0/0", "::/0"]
    rules: list[Rule] = [{"direction": "in", "protocol": "tcp", "port": "22", "source_ips": [admins]}]
    rules += [
        {"direction": "in", "protocol": protocol, "port": "443", "source_ips": world} for protocol in ("tcp", "udp")
    ]
    rules += [{"direction": "in", "protocol": "tcp", "port": "80", "source_ips": world}]
    rules += [{"direction": "in", "protocol": "icmp", "port": None, "source_ips": world}]
    return [{"description": None, "destination_ips": [], **rule} for rule in rules]


@dataclass
class Hetzner:
    """A project at Hetzner Cloud with a firewall for each host, called ``NAME``."""

    token: str
    address: str = ""
    echo: str = ""  # not theirs: tells who asks under which address
    hosts: dict[str, Host | None] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)
    history: list[tuple[str, list[Rule]]] = field(default_factory=list)
    actions: dict[int, str] = field(default_factory=dict)
    broken: str = ""

    def protect(self, name: str, host: Host | None, rules: list[Rule]) -> None:
        """Put a firewall in front of a host (or of nothing)."""
        self.hosts[name] = host
        self.set_rules(name, rules)

    def set_rules(self, name: str, rules: list[Rule]) -> None:
        """Apply rules."""
        self.rules[name] = rules
        self.history.append((name, rules))
        host = self.hosts[name]
        if host:
            host.console("nft", "-f", "-", stdin=_nft(rules))

    def problem(self, rules: object) -> str:
        """Why the API would refuse these rules."""
        if not isinstance(rules, list):
            return "rules must be a list"
        for rule in rules:
            if set(rule) - FIELDS:
                return f"unknown fields {set(rule) - FIELDS}"
            if rule.get("direction") != "in" or not rule.get("source_ips") or rule.get("destination_ips"):
                return "an incoming rule has source_ips and no destination_ips"
            if rule.get("protocol") not in ("tcp", "udp", "icmp", "esp", "gre"):
                return "protocol"
            if (rule["protocol"] in ("tcp", "udp")) != bool(re.fullmatch(r"\d+(-\d+)?", str(rule.get("port", "")))):
                return "port"
            if len(rule.get("description") or "") > 255:
                return "description"
            try:
                for network in rule["source_ips"]:
                    ipaddress.ip_network(network)
            except ValueError as wrong:
                return str(wrong)
        return ""

    def answer(self, asked: Request) -> Answer:
        """What the API answers."""
        names = list(self.rules)
        if asked.path == "/my-address":
            return 200, f"{asked.client}\n"
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return 401, _error("unauthorized", "unable to authenticate")
        if self.broken:
            return 503, _error("unavailable", self.broken)
        if (asked.method, asked.path) == ("GET", "/v1/firewalls"):
            wanted = [name for name in names if asked.query.get("name", name) == name]
            found = [{"id": names.index(name) + 1, "name": name, "rules": self.rules[name]} for name in wanted]
            return 200, {"firewalls": found}
        if asked.method == "POST" and (match := re.fullmatch(r"/v1/firewalls/(\d+)/actions/set_rules", asked.path)):
            problem = self.problem(asked.body.get("rules"))
            if problem:
                return 422, _error("invalid_input", problem)
            number = len(self.actions) + 1
            self.actions[number] = "running"
            filled = [
                {"description": None, "destination_ips": [], "port": None, **rule} for rule in asked.body["rules"]
            ]
            self.set_rules(names[int(match[1]) - 1], filled)
            return 201, {"actions": [{"id": number, "command": "set_firewall_rules", "status": "running"}]}
        if asked.method == "GET" and (match := re.fullmatch(r"/v1/actions/(\d+)", asked.path)):
            status = self.actions[int(match[1])]
            self.actions[int(match[1])] = "success"  # it takes a moment
            return 200, {"action": {"id": int(match[1]), "status": status}}
        return 404, _error("not_found", "not found")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _nft(rules: list[Rule]) -> str:
    """Before Docker's own translation, so that published ports are behind it too."""
    lines = []
    for rule in rules:
        for network in rule["source_ips"]:
            family = "ip6" if ":" in network else "ip"
            what = f"{rule['protocol']} dport {rule['port']}" if rule["port"] else f"meta l4proto {rule['protocol']}"
            lines.append(f"    {family} saddr {network} {what} accept")
    return "\n".join(
        [
            "table inet provider",
            "delete table inet provider",
            "table inet provider {",
            "  chain incoming {",
            "    type filter hook prerouting priority -150; policy drop;",
            '    iifname != "eth0" accept',
            "    ct state established,related accept",
            *lines,
            "  }",
            "}",
            "",
        ]
    )


@contextmanager
def hetzner(address: str, token: str) -> Iterator[Hetzner]:
    """The API on an address of this machine, for as long as the block lasts."""
    cloud = Hetzner(token)
    with serve(cloud.answer, address) as url:
        cloud.address, cloud.echo = f"{url}/v1", f"{url}/my-address"
        yield cloud
