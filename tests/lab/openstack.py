"""OVHcloud's Public Cloud: the part of OpenStack's identity and network APIs that a deploy uses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.lab.web import Answer, Request, serve

REGION, GROUP = "GRA11", "6b1d2f0e-0000-4000-8000-000000000001"
TOKEN = "token-of-an-hour"


@dataclass
class OpenStack:
    """A project with one security group."""

    group: str
    password: str
    url: str = ""
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0

    def add(self, **rule: Any) -> str:  # noqa: ANN401 - JSON is anything
        """Make a rule; its identifier."""
        self.made += 1
        number = f"rule-{self.made}"
        self.rules[number] = {"id": number, "security_group_id": GROUP, "description": "", **rule}
        return number

    def answer(self, asked: Request) -> Answer:
        """What the APIs answer."""
        if (asked.method, asked.path) == ("POST", "/v3/auth/tokens"):
            return self._token(asked.body["auth"])
        if asked.headers.get("x-auth-token") != TOKEN:
            return 401, {"error": {"code": 401, "message": "The request you have made requires authentication."}}
        path = asked.path.removeprefix("/network/v2.0/")
        if (asked.method, path) == ("GET", "security-groups"):
            found = [{"id": GROUP, "name": self.group}] if asked.query.get("name") == self.group else []
            return 200, {"security_groups": found}
        if (asked.method, path) == ("GET", "security-group-rules"):
            return 200, {"security_group_rules": list(self.rules.values())}
        if (asked.method, path) == ("POST", "security-group-rules"):
            return self._create(asked.body["security_group_rule"])
        if asked.method == "DELETE" and (match := re.fullmatch(r"security-group-rules/([\w-]+)", path)):
            return (204, None) if self.rules.pop(match[1], None) else (404, _error("not found"))
        return 404, _error("not found")

    def _token(self, auth: dict[str, Any]) -> Answer:
        user = auth["identity"]["password"]["user"]
        if auth["identity"]["methods"] != ["password"] or user["password"] != self.password:
            return 401, {"error": {"code": 401, "message": "The request you have made requires authentication."}}
        assert user["domain"] == {"id": "default"}
        assert auth["scope"]["project"]["id"]
        endpoints = [
            {"interface": interface, "region": region, "url": f"{self.url}/network"}
            for interface in ("internal", "public")
            for region in (REGION, "SBG5")
        ]
        catalog = [{"type": "identity", "endpoints": []}, {"type": "network", "endpoints": endpoints}]
        return 201, {"token": {"catalog": catalog}}, {"X-Subject-Token": TOKEN}

    def _create(self, rule: dict[str, Any]) -> Answer:
        wanted = {"security_group_id": GROUP, "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp"}
        if not wanted.items() <= rule.items() or (rule["port_range_min"], rule["port_range_max"]) != (22, 22):
            return 400, _error("not a rule for SSH")
        ipaddress.ip_network(rule["remote_ip_prefix"])
        if any(rule["remote_ip_prefix"] == other.get("remote_ip_prefix") for other in self.rules.values()):
            return 409, _error("Security group rule already exists.")
        return 201, {"security_group_rule": self.rules[self.add(**rule)]}


def _error(message: str) -> dict[str, Any]:
    return {"NeutronError": {"type": "Error", "message": message, "detail": ""}}


@contextmanager
def openstack(group: str, password: str) -> Iterator[OpenStack]:
    """The APIs on a port of this machine, for as long as the block lasts."""
    cloud = OpenStack(group, password)
    with serve(cloud.answer) as url:
        cloud.url = url
        yield cloud
