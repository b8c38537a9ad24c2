"""Validators for the answers: each returns an empty string, or the sentence that tells the user what to type instead.

Values are read by real parsers (`ipaddress`, `email.headerregistry`, `encodings.idna`) wherever the standard library
has one.
Only the standard library and Jinja may be imported: whoever runs `copier` has nothing else installed.
"""

from __future__ import annotations

import ipaddress
import re
from email.errors import MessageError
from email.headerregistry import Address
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

# Names of generated services, files and variables; a front end called like one of them would collide with it.
RESERVED_NAMES = frozenset(
    [
        "acme",
        "api",
        "caddy",
        "compose",
        "default",
        "docker",
        "migrate",
        "migrations",
        "nginx",
        "postgres",
        "proxy",
        "www",
        "worker",
    ]
)

# Host names of the service's own sites: a front end NAME answers on NAME.DOMAIN.
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
_SLUG = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){1,39}\Z")
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}\Z")
_COMPOSE_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_DOTNET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_GITHUB_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}\Z")
_GITHUB_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_IMAGE_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9._+-]{1,64}\Z")

# minute, hour, day of month, month, day of week: lowest and highest value that cron(5) accepts.
_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_CRON_ITEM = re.compile(r"(?:\*|(?P<low>[0-9]{1,2})(?:-(?P<high>[0-9]{1,2}))?)(?:/(?P<step>[0-9]{1,2}))?\Z")
# The longest each month gets; a date that no year has would never run.
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def split_names(text: str) -> list[str]:
    """Split an answer that lists names or networks, separated by spaces or commas."""
    return [part for part in re.split(r"[\s,]+", text) if part]


def problem_with_destination(path: object) -> str:
    """Refuse a destination inside a repository but not at its root.

    GitHub reads workflows from the root only, so a copy into a sub-folder would look complete and never run.
    """
    destination = Path(str(path)).resolve()
    if (destination / ".git").exists():
        return ""
    for parent in destination.parents:
        if (parent / ".git").exists():
            return (
                f"{destination} is inside the repository {parent}, but workflows run from a repository's root only. "
                f"Copy to the root instead: {parent} (or run `git init` in the folder first, if it is a "
                "repository of its own)."
            )
    return ""


def problem_with_title(value: str) -> str:
    """Accept a human-readable title: one line of printable text."""
    if not value.strip():
        return "Give the project a name, for example Harbour Shop."
    if len(value) > 60:
        return f"The name has {len(value)} characters; use at most 60."
    if not value.isprintable():
        return "The name may not contain line breaks, tabs or other control characters."
    if value != value.strip():
        return "Remove the space at the beginning or end of the name."
    if not any(character.isalnum() for character in value):
        return "The name needs at least one letter or digit."
    return ""


def problem_with_slug(value: str) -> str:
    """Accept a short name for folders, images and roles."""
    if _SLUG.match(value):
        return ""
    return (
        "Use 2 to 40 lower-case letters, digits and single hyphens, starting with a letter and not ending with a "
        "hyphen, for example harbour-shop."
    )


def problem_with_compose_project(value: str) -> str:
    """Accept what Compose accepts as a project name (Compose specification, `name`)."""
    if _COMPOSE_PROJECT.match(value):
        return ""
    return (
        "Use up to 63 lower-case letters, digits, hyphens and underscores, starting with a letter or digit, as shown "
        "by `docker compose ls`."
    )


def problem_with_repository(value: str) -> str:
    """Accept OWNER/NAME as GitHub spells it."""
    owner, slash, name = value.partition("/")
    if slash and _GITHUB_OWNER.match(owner) and _GITHUB_NAME.match(name) and name not in {".", ".."}:
        return ""
    return "Give the repository as OWNER/NAME, for example harbour/shop, without https:// and without .git."


def problem_with_dotnet_name(value: str) -> str:
    """Accept a .NET namespace of ASCII identifiers."""
    if len(value) <= 80 and _DOTNET_NAME.match(value):
        return ""
    return "Use letters, digits and dots, each part starting with a letter, for example HarbourShop or Harbour.Shop."


def problem_with_frontends(value: str) -> str:
    """Accept a list of distinct front-end names that collide with no other service."""
    names = split_names(value)
    if len(names) > 12:
        return f"{len(names)} front ends are more than the 12 that one server is planned for."
    for name in names:
        if problem_with_slug(name) or len(name) > 20:
            return (
                "Front-end names are 2 to 20 lower-case letters, digits and single hyphens, starting with a letter, "
                "separated by spaces, for example: web admin"
            )
        if name.split("-")[0] in RESERVED_NAMES:
            return (
                f"{name!r} is or begins with the name of another service; call the front end something else, "
                "for example web."
            )
    if len(set(names)) != len(names):
        return "Each front end needs a name of its own."
    return ""


def problem_with_volumes(value: str) -> str:
    """Accept a list of distinct volume names as Compose spells them; the database's own is backed up as a dump."""
    names = split_names(value)
    if len(names) > 20:
        return f"{len(names)} volumes are more than the 20 that a night is planned for."
    for name in names:
        if not _VOLUME.match(name):
            return (
                "Volume names are up to 63 letters, digits, dots, hyphens and underscores, starting with a letter or "
                "digit, separated by spaces, for example: uploads"
            )
        if name == "postgres_data":
            return (
                "postgres_data is backed up as a dump already: a copy of its files while it runs could not be restored."
            )
    if len(set(names)) != len(names):
        return "Name each volume once."
    return ""


def problem_with_domain(value: str) -> str:
    """Accept a fully qualified host name (RFC 1123 labels; other scripts in their xn-- form)."""
    example = "Give a domain such as shop.example.com"
    labels = value.split(".")
    if len(value) > 200:
        return f"{example}: {len(value)} characters are too long."
    if not value.isascii():
        try:
            return f"{example}: write {value.encode('idna').decode()} instead."
        except UnicodeError:
            return f"{example}, in ASCII."
    if value != value.lower():
        return f"{example}, in lower case."
    if len(labels) < 2 or not all(_LABEL.match(label) for label in labels):
        return f"{example}, without https://, port or path."
    for label in labels:
        if label.startswith("xn--"):
            try:
                label.encode().decode("idna")
            except UnicodeError:
                return f"{example}: {label} is not a valid xn-- label."
        elif label[2:4] == "--":
            return f"{example}: no certificate is issued for {label}, with hyphens in its third and fourth place."
    if labels[-1].isdigit():
        return f"{example}: certificates are issued for names, not for addresses."
    if not re.fullmatch("[a-z]{2,}|xn--.+", labels[-1]):
        return f"{example}: there is no top-level domain {labels[-1]}."
    return ""


def problem_with_email(value: str) -> str:
    """Accept a plain mailbox address (RFC 5322 addr-spec without quoting)."""
    example = "Give an e-mail address such as ops@example.com"
    try:
        address = Address(addr_spec=value)
    except (MessageError, ValueError, IndexError):
        return f"{example}."
    if value != f"{address.username}@{address.domain}" or not _EMAIL_LOCAL.match(address.username):
        return f"{example}, with letters, digits and . _ + - only before the @."
    if address.username.startswith(".") or address.username.endswith(".") or ".." in address.username:
        return f"{example}: dots may only stand between other characters."
    if problem_with_domain(address.domain):
        return f"{example}: {address.domain} is not a domain."
    return ""


def problem_with_networks(value: str) -> str:
    """Accept networks in CIDR notation that do not open SSH to everybody."""
    example = "for example 203.0.113.7/32 2001:db8:12::/48"
    networks = split_names(value)
    if not networks:
        return f"Name at least one network, {example}: SSH is never open to the whole internet."
    if len(networks) > 20:
        return "At most 20 networks: a provider's firewall takes no more in one rule."
    for text in networks:
        if not re.fullmatch(r"[0-9a-f.:]+(?:/[0-9]+)?", text):
            return f"{text!r} is not a network; write address/prefix, {example}."
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            try:
                wider = ipaddress.ip_interface(text)
            except ValueError:
                return f"{text!r} is not a network ({error}); write address/prefix, {example}."
            return (
                f"{text} has bits behind its prefix: write {wider.network} for the network or "
                f"{wider.ip}/{wider.max_prefixlen} for the one address."
            )
        if "/" not in text:
            return f"Write the prefix too: {network} for the one address."
        widest = 8 if network.version == 4 else 19
        if network.prefixlen < widest:
            return (
                f"{text} is a large part of the internet; name the networks that administrators really come from, "
                f"{example}."
            )
    if len({ipaddress.ip_network(text) for text in networks}) != len(networks):
        return "A network is named twice."
    return ""


def problem_with_image_repository(value: str) -> str:
    """Accept REGISTRY/PATH of an image reference (distribution specification) without tag or digest."""
    registry, slash, path = value.partition("/")
    host, colon, port = registry.partition(":")
    host_is_valid = host == "localhost" or not problem_with_domain(host)
    port_is_valid = not colon or (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536)
    parts = path.split("/")
    if (
        slash
        and host_is_valid
        and port_is_valid
        and len(value) <= 180
        and all(_IMAGE_COMPONENT.match(part) for part in parts)
    ):
        return ""
    return "Give REGISTRY/PATH in lower case without a tag, for example ghcr.io/harbour/shop."


def problem_with_cron(value: str) -> str:
    """Accept a five-field cron line of numbers, `*`, lists, ranges and steps that comes round at least once a year."""
    example = "Give five cron fields in numbers (minute hour day month weekday), for example 17 2 * * *"
    fields = value.split(" ")
    if len(fields) != len(_CRON_FIELDS):
        return f"{example}, separated by single spaces."
    numbers: list[set[int]] = []
    for text, (name, lowest, highest) in zip(fields, _CRON_FIELDS, strict=True):
        numbers.append(set())
        for item in text.split(","):
            match = _CRON_ITEM.match(item)
            if not match:
                return f"{example}: {text!r} is not a {name}."
            step = int(match["step"] or 1)
            if match["step"] and match["low"] and not match["high"]:
                return f"{example}: {item!r} has a step without a range."
            if not 1 <= step <= highest:
                return f"{example}: the step of {item!r} is out of range."
            low = int(match["low"] or lowest)
            high = int(match["high"] or match["low"] or highest)
            if not lowest <= low <= high <= highest:
                return f"{example}: the {name} goes from {lowest} to {highest}."
            numbers[-1].update(range(low, high + 1, step))
    _, _, days, months, _ = numbers
    # A day of the week that is restricted, too, is another chance to run.
    if fields[4].startswith("*") and min(days) > max(_MONTH_DAYS[month - 1] for month in months):
        return f"{example}: no year has that date."
    return ""


def problem_with_count(value: int, lowest: int, highest: int) -> str:
    """Accept a whole number between two bounds, both included."""
    if lowest <= value <= highest:
        return ""
    return f"Give a number from {lowest} to {highest}."


class Validators(Extension):
    """Makes every `problem_with_…` function of this module available to `copier.yml`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        problems = {name: function for name, function in globals().items() if name.startswith("problem_with_")}
        environment.globals.update(problems)
        environment.filters["split_names"] = split_names
