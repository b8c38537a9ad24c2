"""Hetzner Cloud's API for everything that the generated configuration makes, from SSH keys to servers.

It keeps the rules that its documentation states, so that what would fail there fails here: names are unique, a field
that is not known is refused, what is protected or in use cannot be deleted, and everything takes an action that has to
be waited for. Nothing is really made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tests.lab.web import Answer, Request, serve

Thing = dict[str, Any]

# What each kind's creation takes: required fields, and the others.
FIELDS = {
    "ssh_keys": ({"name", "public_key"}, {"labels"}),
    "firewalls": ({"name"}, {"labels", "rules", "apply_to"}),
    "primary_ips": ({"name", "type"}, {"assignee_type", "assignee_id", "location", "auto_delete", "labels"}),
    "networks": ({"name", "ip_range"}, {"labels", "subnets", "routes", "expose_routes_to_vswitch"}),
    "volumes": ({"name", "size"}, {"labels", "location", "server", "automount", "format"}),
    "servers": (
        {"name", "server_type", "image"},
        {
            *("location", "ssh_keys", "user_data", "labels", "firewalls", "networks", "volumes", "public_net"),
            *("start_after_create", "automount", "placement_group"),
        },
    ),
}
# What a name can be changed together with.
CHANGEABLE = {"name", "labels", "auto_delete", "expose_routes_to_vswitch"}
RULE_FIELDS = {"direction", "protocol", "port", "source_ips", "destination_ips", "description"}
SERVER_TYPES = ["cx23", "cx33", "cax11", "cax21"]
LARGEST_USER_DATA = 32 * 1024


class Refused(Exception):
    """An answer that is an error, with the API's own code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer: Answer = (status, {"error": {"code": code, "message": message, "details": None}})


def singular(kind: str) -> str:
    """The key under which one thing of a kind is told."""
    return kind.removesuffix("s")


def invalid(message: str) -> Refused:
    """Refuse what the request says."""
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_input", message)


def rules_of(given: object) -> list[Thing]:
    """Check firewall rules and fill them in as the API tells them."""
    filled = []
    if not isinstance(given, list) or len(given) > 50:
        raise invalid("rules must be a list of at most 50")
    for rule in given:
        wide = {"port": None, "description": None, "source_ips": [], "destination_ips": [], **rule}
        ports = rule.get("protocol") in ("tcp", "udp")
        if set(rule) - RULE_FIELDS or ports != bool(re.fullmatch(r"\d+(-\d+)?", str(wide["port"] or ""))):
            raise invalid(f"not a rule: {rule}")
        if rule.get("direction") != "in" or not wide["source_ips"] or wide["destination_ips"]:
            raise invalid("an incoming rule has source_ips and no destination_ips")
        for network in wide["source_ips"]:
            ipaddress.ip_network(network)
        filled.append(wide)
    return filled


@dataclass
class Cloud:
    """A project at Hetzner Cloud."""

    token: str
    url: str = ""
    things: dict[str, dict[int, Thing]] = field(default_factory=lambda: {kind: {} for kind in FIELDS})
    actions: dict[int, Thing] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    number: int = 1000

    # ----- What a test looks at

    def named(self, kind: str) -> dict[str, Thing]:
        """The things of a kind by their names."""
        return {thing["name"]: thing for thing in self.things[kind].values()}

    def changes(self) -> list[str]:
        """What was asked that changes something, since the last call."""
        found = [request for request in self.requests if not request.startswith("GET ")]
        self.requests.clear()
        return found

    def count(self) -> int:
        """How many things there are."""
        return sum(len(things) for things in self.things.values())

    # ----- The API

    def answer(self, asked: Request) -> Answer:
        """What the API answers."""
        status, body, *_ = self._answer(asked)
        return status, body, {"Content-Type": "application/json"}

    def _answer(self, asked: Request) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return HTTPStatus.UNAUTHORIZED, {"error": {"code": "unauthorized", "message": "unable to authenticate"}}
        path = asked.path.removeprefix("/v1/")
        self.requests.append(f"{asked.method} {path}")
        try:
            return self._route(asked, path.split("/"))
        except Refused as refused:
            return refused.answer

    def _route(self, asked: Request, path: list[str]) -> Answer:
        kind = path[0]
        catalogue = {"server_types": server_types, "images": images, "locations": locations}
        if asked.method == "GET" and kind in catalogue:
            known = catalogue[kind]()
            if len(path) > 1:
                return HTTPStatus.OK, {singular(kind): self._one({each["id"]: each for each in known}, path[1])}
            return self._list(kind, known, asked)
        if asked.method == "GET" and kind == "actions":
            wanted = [int(value) for name, value in asked.parameters if name == "id"] or [
                int(part) for part in path[1:]
            ]
            told = [self._progress(number) for number in wanted]
            return HTTPStatus.OK, {"action": told[0]} if len(path) > 1 else {
                "actions": told,
                "meta": paging(1, 50, len(told)),
            }
        if kind not in FIELDS:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"there is no {kind}")
        if len(path) == 1:
            return (
                self._list(kind, list(self.things[kind].values()), asked)
                if asked.method == "GET"
                else self._create(kind, asked.body)
            )
        thing = self._one(self.things[kind], path[1])
        if len(path) == 4 and path[2] == "actions" and asked.method == "POST":
            return self._act(kind, thing, path[3], asked.body or {})
        if asked.method == "PUT":
            unknown = set(asked.body) - CHANGEABLE
            if unknown:
                raise invalid(f"{unknown} cannot be changed")
            self._refuse_taken(kind, asked.body.get("name"), thing)
            thing.update(asked.body)
        if asked.method == "DELETE":
            return self._delete(kind, thing)
        return HTTPStatus.OK, {singular(kind): thing}

    def _one(self, things: dict[int, Thing], number: str) -> Thing:
        if not number.isdigit() or int(number) not in things:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"there is no {number}")
        return things[int(number)]

    def _list(self, kind: str, things: list[Thing], asked: Request) -> Answer:
        for name in ("name", "architecture", "ip"):
            if name in asked.query:
                things = [each for each in things if each.get(name) == asked.query[name]]
        page, size = int(asked.query.get("page", 1)), min(int(asked.query.get("per_page", 25)), 50)
        return HTTPStatus.OK, {kind: things[(page - 1) * size : page * size], "meta": paging(page, size, len(things))}

    def _refuse_taken(self, kind: str, name: str | None, but: Thing | None = None) -> None:
        if any(each["name"] == name and each is not but for each in self.things[kind].values()):
            raise Refused(HTTPStatus.CONFLICT, "uniqueness_error", f"the name {name} is already used")

    def _action(self, command: str, *resources: tuple[str, int]) -> Thing:
        self.number += 1
        self.actions[self.number] = {
            "id": self.number,
            "command": command,
            "status": "running",
            "progress": 0,
            "started": "2026-01-01T00:00:00+00:00",
            "finished": None,
            "resources": [{"id": number, "type": kind} for kind, number in resources],
            "error": None,
        }
        return dict(self.actions[self.number])

    def _progress(self, number: int) -> Thing:
        if number not in self.actions:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"there is no action {number}")
        told = dict(self.actions[number])
        # It takes a moment: the next question finds it done.
        self.actions[number].update(status="success", progress=100, finished="2026-01-01T00:00:01+00:00")
        return told

    # ----- Making

    def _create(self, kind: str, given: Thing) -> Answer:
        required, optional = FIELDS[kind]
        if required - set(given) or set(given) - required - optional:
            raise invalid(f"{kind}: missing {required - set(given)}, unknown {set(given) - required - optional}")
        self._refuse_taken(kind, given["name"])
        self.number += 1
        thing: Thing = {
            "id": self.number,
            "name": given["name"],
            "created": "2026-01-01T00:00:00+00:00",
            "labels": given.get("labels") or {},
            "protection": {"delete": False},
        }
        make: dict[str, Callable[[Thing, Thing], Thing]] = {
            "ssh_keys": self._ssh_key,
            "firewalls": self._firewall,
            "primary_ips": self._primary_ip,
            "networks": self._network,
            "volumes": self._volume,
            "servers": self._server,
        }
        more = make[kind](thing, given)
        self.things[kind][thing["id"]] = thing
        return HTTPStatus.CREATED, {singular(kind): thing, **more}

    def _ssh_key(self, key: Thing, given: Thing) -> Thing:
        if any(each["public_key"] == given["public_key"] for each in self.things["ssh_keys"].values()):
            raise Refused(HTTPStatus.CONFLICT, "uniqueness_error", "SSH key not unique")
        key.update(public_key=given["public_key"], fingerprint="b7:2f:30:a0")
        return {}

    def _firewall(self, firewall: Thing, given: Thing) -> Thing:
        firewall.update(rules=rules_of(given.get("rules") or []), applied_to=[])
        if given.get("apply_to"):
            raise invalid("this configuration names firewalls when it makes servers")
        return {"actions": []}

    def _primary_ip(self, address: Thing, given: Thing) -> Thing:
        if given["type"] not in ("ipv4", "ipv6"):
            raise invalid("type")
        number = len(self.things["primary_ips"]) + 1
        address.update(
            type=given["type"],
            ip=f"192.0.2.{number}" if given["type"] == "ipv4" else f"2001:db8:{number}::/64",
            assignee_type="server",
            assignee_id=None,
            auto_delete=bool(given.get("auto_delete")),
            blocked=False,
            location=location(given.get("location") or ""),
            dns_ptr=[],
        )
        return {"action": None}

    def _network(self, network: Thing, given: Thing) -> Thing:
        ipaddress.ip_network(given["ip_range"])
        network.update(
            ip_range=given["ip_range"],
            subnets=[],
            routes=[],
            servers=[],
            load_balancers=[],
            expose_routes_to_vswitch=False,
        )
        return {}

    def _volume(self, volume: Thing, given: Thing) -> Thing:
        if not 10 <= given["size"] <= 10240 or given.get("format") not in (None, "ext4", "xfs"):
            raise invalid("size or format")
        volume.update(
            size=given["size"],
            format=given.get("format"),
            location=location(given["location"]),
            server=None,
            status="available",
            linux_device=f"/dev/disk/by-id/scsi-0HC_Volume_{volume['id']}",
        )
        return {"action": self._action("create_volume", ("volume", volume["id"])), "next_actions": []}

    def _server(self, server: Thing, given: Thing) -> Thing:
        if len((given.get("user_data") or "").encode()) > LARGEST_USER_DATA:
            raise invalid("user_data is too long")
        for key in given.get("ssh_keys") or []:
            self._one(self.things["ssh_keys"], str(key))
        firewalls = [
            self._one(self.things["firewalls"], str(each["firewall"])) for each in given.get("firewalls") or []
        ]
        net = given.get("public_net") or {}
        if not (net.get("enable_ipv4") and net.get("enable_ipv6")):
            raise invalid("public_net")
        addresses = {}
        for kind in ("ipv4", "ipv6"):
            address = self._one(self.things["primary_ips"], str(net[kind]))
            if (
                address["assignee_id"]
                or address["type"] != kind
                or address["location"]["name"] != given.get("location")
            ):
                raise invalid(f"that address cannot be given to this server: {address['name']}")
            address["assignee_id"] = server["id"]
            addresses[kind] = {
                "id": address["id"],
                "ip": address["ip"],
                "blocked": False,
                "dns_ptr": address["dns_ptr"],
            }
        addresses["ipv4"]["dns_ptr"] = ""
        for firewall in firewalls:
            firewall["applied_to"].append({"type": "server", "server": {"id": server["id"]}})
        server.update(
            status="running",
            public_net={
                **addresses,
                "floating_ips": [],
                "firewalls": [{"id": each["id"], "status": "applied"} for each in firewalls],
            },
            private_net=[],
            server_type=next(
                each for each in server_types() if str(given["server_type"]) in (str(each["id"]), each["name"])
            ),
            image=next(each for each in images() if str(given["image"]) in (str(each["id"]), each["name"])),
            location=location(given["location"]),
            backup_window=None,
            rescue_enabled=False,
            locked=False,
            volumes=[],
            load_balancers=[],
            primary_disk_size=40,
            protection={"delete": False, "rebuild": False},
            user_data=given.get("user_data"),  # not told by the real API: for the tests to look at
        )
        if server["image"]["architecture"] != server["server_type"]["architecture"]:
            raise invalid("the image is for another architecture")
        action = self._action("create_server", ("server", server["id"]))
        return {"action": action, "next_actions": [self._action("start_server")], "root_password": None}

    # ----- Changing

    def _act(self, kind: str, thing: Thing, command: str, given: Thing) -> Answer:
        act = getattr(self, f"_{singular(kind)}_{command}", None)
        if command == "change_protection":
            thing["protection"].update(given)
        elif command == "change_dns_ptr":
            self._dns(thing, given)
        elif act:
            act(thing, given)
        else:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"{kind} have no action {command}")
        action = self._action(command, (singular(kind), thing["id"]))
        return HTTPStatus.CREATED, {"actions": [action]} if kind == "firewalls" else {"action": action}

    def _dns(self, address: Thing, given: Thing) -> None:
        if ipaddress.ip_address(given["ip"]) not in ipaddress.ip_network(address["ip"]):
            raise invalid("that address is not in the network of this primary IP")
        kept = [each for each in address["dns_ptr"] if each["ip"] != given["ip"]]
        address["dns_ptr"] = [*kept, *([{"ip": given["ip"], "dns_ptr": given["dns_ptr"]}] if given["dns_ptr"] else [])]

    def _firewall_set_rules(self, firewall: Thing, given: Thing) -> None:
        firewall["rules"] = rules_of(given.get("rules"))

    def _firewall_remove_from_resources(self, firewall: Thing, given: Thing) -> None:
        gone = [each["server"]["id"] for each in given["remove_from"]]
        firewall["applied_to"] = [each for each in firewall["applied_to"] if each["server"]["id"] not in gone]
        for number in gone:
            net = self.things["servers"][number]["public_net"]
            net["firewalls"] = [each for each in net["firewalls"] if each["id"] != firewall["id"]]

    def _firewall_apply_to_resources(self, firewall: Thing, given: Thing) -> None:
        for each in given["apply_to"]:
            firewall["applied_to"].append({"type": "server", "server": {"id": each["server"]["id"]}})
            net = self.things["servers"][each["server"]["id"]]["public_net"]
            net["firewalls"].append({"id": firewall["id"], "status": "applied"})

    def _network_add_subnet(self, network: Thing, given: Thing) -> None:
        if not ipaddress.IPv4Network(given["ip_range"]).subnet_of(ipaddress.IPv4Network(network["ip_range"])):
            raise invalid("the subnet is not inside the network")
        gateway = str(ipaddress.IPv4Network(network["ip_range"])[1])
        network["subnets"].append({**given, "gateway": gateway, "vswitch_id": None})

    def _network_delete_subnet(self, network: Thing, given: Thing) -> None:
        if network["servers"]:
            raise Refused(HTTPStatus.CONFLICT, "conflict", "servers are attached to that subnet")
        network["subnets"] = [each for each in network["subnets"] if each["ip_range"] != given["ip_range"]]

    def _volume_attach(self, volume: Thing, given: Thing) -> None:
        server = self._one(self.things["servers"], str(given["server"]))
        if volume["server"]:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "volume_already_attached", "it is attached already")
        volume["server"] = server["id"]
        server["volumes"].append(volume["id"])

    def _volume_detach(self, volume: Thing, _: Thing) -> None:
        self.things["servers"][volume["server"]]["volumes"].remove(volume["id"])
        volume["server"] = None

    def _volume_resize(self, volume: Thing, given: Thing) -> None:
        if given["size"] <= volume["size"]:
            raise invalid("a volume can only grow")
        volume["size"] = given["size"]

    def _server_enable_backup(self, server: Thing, _: Thing) -> None:
        server["backup_window"] = "22-02"

    def _server_disable_backup(self, server: Thing, _: Thing) -> None:
        server["backup_window"] = None

    def _server_attach_to_network(self, server: Thing, given: Thing) -> None:
        network = self._one(self.things["networks"], str(given["network"]))
        inside = [
            each
            for each in network["subnets"]
            if ipaddress.ip_address(given["ip"]) in ipaddress.ip_network(each["ip_range"])
        ]
        if not inside or given["ip"] == inside[0]["gateway"]:
            raise invalid("that address is in no subnet, or is the gateway's")
        network["servers"].append(server["id"])
        server["private_net"].append(
            {"network": network["id"], "ip": given["ip"], "alias_ips": [], "mac_address": "86:00:ff:2a:7d:e1"}
        )

    def _server_detach_from_network(self, server: Thing, given: Thing) -> None:
        self.things["networks"][given["network"]]["servers"].remove(server["id"])
        server["private_net"] = [each for each in server["private_net"] if each["network"] != given["network"]]

    def _server_shutdown(self, server: Thing, _: Thing) -> None:
        server["status"] = "off"

    _server_poweroff = _server_shutdown

    def _server_poweron(self, server: Thing, _: Thing) -> None:
        server["status"] = "running"

    def _server_change_type(self, server: Thing, given: Thing) -> None:
        if server["status"] != "off":
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "server_not_stopped", "the server must be off")
        server["server_type"] = next(
            each for each in server_types() if str(given["server_type"]) in (str(each["id"]), each["name"])
        )

    # ----- Removing

    def _delete(self, kind: str, thing: Thing) -> Answer:
        if thing["protection"]["delete"]:
            raise Refused(HTTPStatus.LOCKED, "protected", f"{singular(kind)} deletion is protected")
        used = (
            thing.get("assignee_id") or thing.get("applied_to") or (thing.get("server") if kind == "volumes" else None)
        )
        if used or (kind == "networks" and thing["servers"]):
            raise Refused(HTTPStatus.CONFLICT, "resource_in_use", f"{thing['name']} is still in use")
        del self.things[kind][thing["id"]]
        if kind != "servers":
            return HTTPStatus.NO_CONTENT, None
        self._let_go(thing["id"])
        return HTTPStatus.OK, {"action": self._action("delete_server", ("server", thing["id"]))}

    def _let_go(self, server: int) -> None:
        """Free what a server held when it goes."""
        for address in [each for each in self.things["primary_ips"].values() if each["assignee_id"] == server]:
            address["assignee_id"] = None
            if address["auto_delete"]:
                del self.things["primary_ips"][address["id"]]
        for firewall in self.things["firewalls"].values():
            firewall["applied_to"] = [each for each in firewall["applied_to"] if each["server"]["id"] != server]
        for volume in self.things["volumes"].values():
            volume["server"] = None if volume["server"] == server else volume["server"]
        for network in self.things["networks"].values():
            network["servers"] = [each for each in network["servers"] if each != server]


def paging(page: int, size: int, entries: int) -> Thing:
    """What the API says about pages."""
    last = max(1, -(-entries // size))
    return {
        "pagination": {
            "page": page,
            "per_page": size,
            "previous_page": page - 1 if page > 1 else None,
            "next_page": page + 1 if page < last else None,
            "last_page": last,
            "total_entries": entries,
        }
    }


def architecture(name: str) -> str:
    """The processor of a server type."""
    return "arm" if name.startswith("cax") else "x86"


def server_types() -> list[Thing]:
    """The sizes of servers."""
    return [
        {
            "id": number,
            "name": name,
            "description": name,
            "cores": 2,
            "memory": 4.0,
            "disk": 40,
            "storage_type": "local",
            "cpu_type": "shared",
            "architecture": architecture(name),
            "category": "cost_optimized",
            "deprecation": None,
            "locations": [{"id": 1, "name": "fsn1", "deprecation": None}],
            "prices": [],
        }
        for number, name in enumerate(SERVER_TYPES, start=101)
    ]


def images() -> list[Thing]:
    """The one system that is asked for, for both processors."""
    return [
        {
            "id": number,
            "name": "debian-13",
            "description": "Debian 13",
            "type": "system",
            "status": "available",
            "architecture": processor,
            "os_flavor": "debian",
            "os_version": "13",
            "disk_size": 5,
            "created": "2025-08-10T00:00:00+00:00",
            "protection": {"delete": False},
            "labels": {},
            "deprecated": None,
        }
        for number, processor in ((201, "x86"), (202, "arm"))
    ]


def locations() -> list[Thing]:
    """Where a server can stand."""
    return [
        {
            "id": 1,
            "name": "fsn1",
            "description": "Falkenstein",
            "network_zone": "eu-central",
            "country": "DE",
            "city": "",
        }
    ]


def location(name: str) -> Thing:
    """One of them."""
    for known in locations():
        if known["name"] == name:
            return known
    raise invalid(f"there is no location {name!r}")


@contextmanager
def cloud(token: str) -> Iterator[Cloud]:
    """The API on a port of this machine, for as long as the block lasts."""
    made = Cloud(token)
    with serve(made.answer) as url:
        made.url = f"{url}/v1"
        yield made
