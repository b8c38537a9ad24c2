"""Write `docs/gallery.md` (`make docs`): what each profile of the tests gets, as a picture, a tree and figures.

Nothing is drawn by hand: services, networks and ports come from the rendered Compose file, host names and their
services from what Caddy and nginx's own parser read in the proxy's file. Who a profile is for stands in `gallery.toml`.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import crossplane
import yaml

from tests import profiles, rendering, tooling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TARGET = rendering.ROOT / "docs" / "gallery.md"

HEADER = """\
# Gallery

What you would get, before you answer anything: each set of answers that Slipway's tests render, with the system that
comes of it. `make docs` makes this page from the rendered files.

In the pictures, a box with two names is a service with two slots: one serves, the other takes the next release. What is
outside of the frame is not on your server. In the trees, `+` marks what [`default`](#default) does not have.
"""

SECTIONS: dict[str, dict[str, str]] = tomllib.loads(TARGET.with_suffix(".toml").read_text(encoding="utf-8"))
"""Who each profile is for, by the title of its section, in the order of the page."""

OUTSIDE = {"backups": '(["Backups"])', "world": '(["Mail, identity, payment"])'}
"""Where networks with a way out lead."""

SLOTS = re.compile(r"(?P<service>.+)-(blue|green)\Z")


@dataclass
class System:
    """A system as its rendered files describe it."""

    compose: Mapping[str, Any]
    hosts: Mapping[str, set[str]]
    """Public host names, and the services that answer on each."""
    nodes: dict[str, list[str]] = field(init=False)
    """What is drawn as one box, and the Compose services in it."""

    def __post_init__(self) -> None:
        self.nodes = {}
        for name, service in self.compose["services"].items():
            # A service whose only profile has its own name runs when somebody calls it.
            if service.get("profiles") != [name]:
                self.nodes.setdefault(box(name), []).append(name)

    def service(self, node: str) -> Mapping[str, Any]:
        """Return what Compose says about a box; slots are alike."""
        found: Mapping[str, Any] = self.compose["services"][self.nodes[node][0]]
        return found

    def networks(self, node: str) -> Mapping[str, Any]:
        """Return a box's networks with its settings in each."""
        given = self.service(node).get("networks", {})
        return given if isinstance(given, dict) else dict.fromkeys(given)


def box(service: str) -> str:
    """Return the name under which a service is drawn: both slots under one."""
    slot = SLOTS.match(service)
    return slot["service"] if slot else service


def system(project: Path) -> System:
    """Read a rendered project."""
    infra = project / "infra"
    compose = yaml.safe_load((infra / "docker-compose.prod.yml").read_text(encoding="utf-8"))
    facts = dict(re.findall(r"^(\w+)=(.*)$", (infra / "deploy.conf").read_text(encoding="utf-8"), re.MULTILINE))
    variables = {
        f"{name.upper().replace('-', '_')}_HOSTNAME": host
        for name, host in (pair.split("=") for pair in facts["PRODUCTION_HOSTS"].split())
    }
    read = hosts_of_caddy if facts["PROXY"] == "caddy" else hosts_of_nginx
    return System(compose, read(infra, variables))


def hosts_of_caddy(infra: Path, variables: Mapping[str, str]) -> dict[str, set[str]]:
    """Let Caddy read its file, and say which services each host name leads to."""
    caddy = tooling.find("caddy")
    if caddy is None:
        message = "caddy is not installed: its package has no build for this system (requirements/dev.in)"
        raise FileNotFoundError(message)
    unused = {"ACME_EMAIL": "a@example.com", "ACME_DIRECTORY": "https://example.com", "MAX_REQUEST_SIZE": "1MB"}
    told = tooling.run([caddy, "adapt", "--config", infra / "Caddyfile"], env={**variables, **unused}).stdout
    found: dict[str, set[str]] = {}
    for server in json.loads(told)["apps"]["http"]["servers"].values():
        for route in server["routes"]:
            upstreams = {box(dial.rpartition(":")[0]) for dial in _values(route, "dial")}
            for match in route.get("match", []):
                for host in match.get("host", []):
                    found.setdefault(host, set()).update(upstreams)
    return found


def _values(data: object, key: str) -> Iterator[str]:
    """Return every text that stands under a key, however deep."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name == key and isinstance(value, str):
                yield value
            yield from _values(value, key)
    elif isinstance(data, list):
        for value in data:
            yield from _values(value, key)


def hosts_of_nginx(infra: Path, variables: Mapping[str, str]) -> dict[str, set[str]]:
    """Read nginx's file, and say which services each host name leads to."""
    [file] = crossplane.parse(str(infra / "nginx.conf"), single=True)["config"]
    directives = list(_directives(file["parsed"]))
    upstreams = {
        directive["args"][0]: {
            box(inner["args"][0].rpartition(":")[0])
            for inner in _directives(directive["block"])
            if inner["directive"] == "server"
        }
        for directive in directives
        if directive["directive"] == "upstream"
    }
    found: dict[str, set[str]] = {}
    for server in directives:
        if server["directive"] != "server" or "block" not in server:
            continue
        within = list(_directives(server["block"]))
        targets = {
            # The variable says from which slot on; both are drawn as one.
            urlsplit(inner["args"][0].removesuffix("$slot")).netloc
            for inner in within
            if inner["directive"] == "proxy_pass"
        }
        for inner in within:
            if inner["directive"] == "server_name":
                for name in inner["args"]:
                    host = re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], name)
                    found.setdefault(host, set()).update(*(upstreams[target] for target in targets))
    return found


def _directives(block: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for directive in block:
        yield directive
        yield from _directives(directive.get("block", []))


def diagram(drawn: System) -> str:
    """Draw a system as a Mermaid flowchart."""
    networks = drawn.compose["networks"]
    ids = {node: f"n{number}" for number, node in enumerate(drawn.nodes)}
    databases = {node: _database(drawn.service(node)) for node in drawn.nodes}
    entries = {node: _ports(drawn.service(node)) for node in drawn.nodes if drawn.service(node).get("ports")}
    lines = ["flowchart LR", '  users(["Browsers, clients"])', '  subgraph server["One server per environment"]']
    for node, services in drawn.nodes.items():
        label = "<br/>".join(services)
        shape = f'[("{label}")]' if node in databases.values() else f'["{label}"]'
        lines.append(f"    {ids[node]}{shape}")
    lines.append("  end")

    edges: dict[tuple[str, str], list[str]] = {}
    for node, ports in entries.items():
        edges["users", ids[node]] = ports
        for host, leads_to in drawn.hosts.items():
            for service in sorted(leads_to):
                edges.setdefault((ids[node], ids[service]), []).append(host)
    outside: dict[str, str] = {}
    for node in drawn.nodes:
        environment = drawn.service(node).get("environment", {})
        ways_out = [name for name in drawn.networks(node) if not (networks[name] or {}).get("internal")]
        # Server-side calls of the front ends: to a name that some other service has on a network that both are on.
        for value in map(str, environment.values()):
            address = urlsplit(value) if re.fullmatch(r"http://[\w.-]+:\d+", value) else None
            for other in drawn.nodes if address else ():
                if address and other != node and address.hostname in _aliases(drawn, other, node):
                    edges[ids[node], ids[other]] = [value]
        database = databases[node]
        if database in ids:
            edges[ids[node], ids[database]] = _common(drawn, node, database)
        elif database:
            outside["managed"] = '[("Managed PostgreSQL")]'
            edges[ids[node], "managed"] = ways_out
        for network in ways_out:
            if node not in entries:
                place = "backups" if network == "archive" else "world"
                outside[place] = OUTSIDE[place]
                edges[ids[node], place] = [network]
    lines += [f"  {name}{shape}" for name, shape in outside.items()]
    lines += [f'  {start} -->|"{"<br/>".join(labels)}"| {end}' for (start, end), labels in edges.items()]
    return "\n".join(lines)


def _ports(service: Mapping[str, Any]) -> list[str]:
    """Return the ports that a service publishes, as the numbers outside."""
    found: dict[str, list[str]] = {}
    for port in service["ports"]:
        number, _, protocol = re.sub(r"\$\{\w+:-(\d+)\}:\d+", r"\1", port).partition("/")
        found.setdefault(number, []).append(protocol or "tcp")
    return [f"{number}/{'+'.join(protocols)}" for number, protocols in found.items()]


def _database(service: Mapping[str, Any]) -> str:
    """Return the host of the database that a service is told of."""
    host = re.search(r"\bHost=([^;]+)", str(service.get("environment", {}).get("ConnectionStrings__Database", "")))
    return host[1] if host else ""


def _common(drawn: System, one: str, other: str) -> list[str]:
    """Return the networks that two boxes share."""
    return [network for network in drawn.networks(one) if network in drawn.networks(other)]


def _aliases(drawn: System, node: str, caller: str) -> set[str]:
    """Return the extra names under which a box is known to a caller."""
    return {
        alias
        for network in _common(drawn, node, caller)
        for alias in (drawn.networks(node)[network] or {}).get("aliases", [])
    }


def tree(files: list[str], usual: set[str]) -> str:
    """Draw the files as a tree; a `+` before what is not usual."""
    lines: list[str] = []

    def draw(paths: list[tuple[str, ...]], above: tuple[str, ...], indent: str) -> None:
        names = sorted({path[0] for path in paths})
        for name in names:
            last = name == names[-1]
            inner = [path[1:] for path in paths if path[0] == name and len(path) > 1]
            here = (*above, name)
            new = not any(file == "/".join(here) or file.startswith("/".join(here) + "/") for file in usual)
            lines.append(f"{'+' if new else ' '} {indent}{'└── ' if last else '├── '}{name}{'/' if inner else ''}")
            if inner:
                draw(inner, here, indent + ("    " if last else "│   "))

    draw([tuple(file.split("/")) for file in files], (), "")
    return "\n".join(lines)


def lines_of(project: Path) -> int:
    """Count the lines of all files."""
    return sum((project / name).read_bytes().count(b"\n") for name in rendering.files(project))


def answers(name: str, usual: Mapping[str, Any]) -> str:
    """Name the answers that are not the defaults; those of a made-up project's name and address are not worth it."""
    given = profiles.PROFILES[name]
    told = [
        f"[{question}](questions.md#{question}): `{_typed(answer)}`"
        for question, answer in given.items()
        if question not in profiles.REQUIRED and answer != usual.get(question)
    ]
    return f"Answers: {', '.join(told)}." if told else "Answers: the defaults."


def _typed(answer: object) -> str:
    """Write an answer as on the command line."""
    if isinstance(answer, list):
        return json.dumps(answer)
    return str(answer).lower() if isinstance(answer, bool) else str(answer) or '""'


def begin(recorded: Mapping[str, Any]) -> str:
    """Say where somebody with these answers starts to read."""
    links = ["[Start](start.md#a-new-repository)"]
    if "terraform" in recorded["provisioning"]:
        links.append("[Terraform](terraform.md)")
    if "ansible" in recorded["provisioning"]:
        links.append("[Ansible](ansible.md)")
    if recorded["backup_method"] != "provider_snapshots":
        links.append(f"[Backups](backups.md{'#pgbackrest' if recorded['backup_method'] == 'pgbackrest' else ''})")
    return f"Where to start: {', '.join(links)}."


def entry(name: str, paragraph: str, project: Path, default: Path) -> str:
    """Describe one profile."""
    files, usual = rendering.files(project), rendering.files(default)
    recorded = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((default / ".copier-answers.yml").read_text(encoding="utf-8"))
    # Rounded, so that not each change of a file that all have changes each of the figures.
    figures = f"{len(files)} files, about {round(lines_of(project), -2):,} lines"
    missing = sorted(set(usual) - set(files))
    absent = f"\nNot here, but in `default`: {', '.join(f'`{file}`' for file in missing)}.\n" if missing else ""
    return f"""\
### {name}

{paragraph}

{answers(name, defaults)} {begin(recorded)}

```mermaid
{diagram(system(project))}
```

<details>
<summary>{figures}</summary>
{absent}
```text
{tree(files, set(usual))}
```

</details>
"""


def page(project: Callable[[str], Path]) -> str:
    """Return the whole page; `project` renders a profile, or knows where it has been rendered."""
    parts = [HEADER]
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}\n")
        parts += [entry(name, paragraph, project(name), project("default")) for name, paragraph in entries.items()]
    return "\n".join(parts)


def rendered(folder: Path) -> Callable[[str], Path]:
    """Return a function that renders a profile of the working tree in a folder, each once."""
    source = rendering.copy_template(folder / "template")

    def project(name: str) -> Path:
        place = folder / name
        return place if place.exists() else rendering.render(source, place, profiles.PROFILES[name])

    return project
