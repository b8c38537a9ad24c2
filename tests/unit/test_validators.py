"""What a validator takes is right in the eyes of a parser that somebody else wrote."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import string

import idna
import pytest
import validators
from cronsim import CronSim
from email_validator import EmailNotValidError, validate_email
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.tooling import in_ci

# These are fast: many more cases than of whole copies.
MANY = settings(max_examples=1000 if in_ci() else 200)

cron_numbers = st.integers(0, 60).map(str)
cron_ranges = st.builds("{}-{}".format, cron_numbers, cron_numbers)
cron_steps = st.builds("{}/{}".format, st.just("*") | cron_ranges, st.integers(0, 60))
cron_items = st.just("*") | cron_numbers | cron_ranges | cron_steps
cron_fields = st.lists(cron_items, min_size=1, max_size=3).map(",".join)
cron_lines = st.lists(cron_fields | st.just("*"), min_size=5, max_size=5).map(" ".join)


@MANY
@given(cron_lines)
@example("17 2 * * *")
@example("0 0 29 2 *")
@example("0 0 31 4,6 *")
@example("0 0 30,31 2 *")
def test_an_accepted_schedule_comes_round(line: str) -> None:
    if validators.problem_with_cron(line) == "":
        next(CronSim(line, datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)))


@MANY
@given(
    st.tuples(
        st.integers(0, 59).map(str) | st.just("*") | st.just("*/15"),
        st.integers(0, 23).map(str) | st.just("*") | st.just("1-5"),
        st.integers(1, 28).map(str) | st.just("*"),
        st.integers(1, 12).map(str) | st.just("*"),
        st.integers(0, 7).map(str) | st.just("*") | st.just("1,3,5"),
    )
)
def test_an_ordinary_schedule_is_accepted(fields: tuple[str, ...]) -> None:
    assert validators.problem_with_cron(" ".join(fields)) == ""


labels = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=65)
names = st.lists(labels | st.sampled_from(["xn--p1ai", "xn--a", "com"]), min_size=1, max_size=5).map(".".join)


@MANY
@given(names | st.text(max_size=20))
@example("xn--bcher-kva.example")
@example("xn--zz--.example")
@example("ab--cd.example.com")
def test_an_accepted_domain_is_one_for_idna(domain: str) -> None:
    if validators.problem_with_domain(domain) == "":
        assert idna.encode(domain, strict=True).decode() == domain
        assert len(domain) <= 253
        with pytest.raises(ValueError, match="does not appear to be"):
            ipaddress.ip_address(domain)


@MANY
@given(st.text(max_size=40).filter(lambda text: not text.isascii()))
@example("bücher.example")
def test_a_domain_in_another_script_is_answered_with_what_to_type(domain: str) -> None:
    assert validators.problem_with_domain(domain).startswith("Give a domain such as shop.example.com")


@given(st.from_regex(r"[a-z]{2,8}(-[a-z0-9]{2,5})?(\.[a-z]{2,8}){1,3}", fullmatch=True))
def test_an_ordinary_domain_is_accepted(domain: str) -> None:
    assert validators.problem_with_domain(domain) == ""


class ReservedName(Exception):
    """The domain is one of those that are kept for documents and tests."""


def check_with_email_validator(address: str) -> None:
    try:
        validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        if "special-use or reserved" in str(error):
            raise ReservedName from error
        raise


locals_ = st.text(string.ascii_letters + string.digits + "._+-\"' ()\\", min_size=1, max_size=66)


@MANY
@given(st.builds("{}@{}".format, locals_, names) | st.text(max_size=30) | st.emails())
@example("a@example.com")
@example("a@b@example.com")
@example("ops@xn--bcher-kva.example")
def test_an_accepted_mail_address_is_one_for_email_validator(address: str) -> None:
    if validators.problem_with_email(address) == "":
        # Names that are reserved are right, though no mail arrives there.
        with contextlib.suppress(ReservedName):
            check_with_email_validator(address)


@given(st.from_regex(r"[a-z][a-z0-9]{0,8}([.+_-][a-z0-9]{1,8}){0,2}", fullmatch=True))
def test_an_ordinary_mail_address_is_accepted(local: str) -> None:
    assert validators.problem_with_email(f"{local}@example.com") == ""


networks = st.builds(
    lambda address, prefix, strict: (
        str(ipaddress.ip_network(f"{address}/{prefix % (address.max_prefixlen + 1)}", strict=False))
        if strict
        else f"{address}/{prefix}"
    ),
    st.ip_addresses(),
    st.integers(0, 140),
    st.booleans(),
)


@MANY
@given(
    st.lists(networks | st.text("0123456789abcdef.:/", max_size=20), max_size=4),
    st.sampled_from([" ", ", ", ",", "  "]),
)
def test_accepted_networks_are_networks_and_none_is_half_of_the_internet(parts: list[str], separator: str) -> None:
    text = separator.join(parts)
    if validators.problem_with_networks(text) == "":
        found = [ipaddress.ip_network(part) for part in validators.split_names(text)]
        assert found
        assert len(set(found)) == len(found)
        assert all(network.prefixlen >= (8 if network.version == 4 else 19) for network in found)


@given(st.lists(st.ip_addresses(), min_size=1, max_size=20, unique=True))
def test_single_addresses_are_accepted(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    assume(not any(getattr(address, "scope_id", None) for address in addresses))
    text = " ".join(f"{address}/{address.max_prefixlen}" for address in addresses)
    assert validators.problem_with_networks(text) == ""


@pytest.mark.parametrize(
    "value",
    [
        "ghcr.io/harbour/shop",
        "registry.example.com:5000/a/b_c/d--e",
        "localhost/x",
        "localhost:5000/shop",
        "ghcr.io/a/b__c.d",
    ],
)
def test_image_repositories_as_registries_use_them_are_accepted(value: str) -> None:
    assert validators.problem_with_image_repository(value) == ""


# The grammar of the distribution specification and of the reference library, for names in lower case with a registry.
REFERENCE = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)(?::[0-9]+)?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+"
)


@MANY
@given(st.text("abz019.-_:/@ A", max_size=30) | st.builds("{}/{}".format, names, labels))
def test_an_accepted_image_repository_follows_the_reference_grammar(value: str) -> None:
    if validators.problem_with_image_repository(value) == "":
        assert REFERENCE.fullmatch(value)


@MANY
@given(st.text(max_size=30) | st.text("ab1-_", max_size=30))
def test_accepted_short_names_are_plain(value: str) -> None:
    if validators.problem_with_slug(value) == "":
        assert re.fullmatch("[a-z][a-z0-9-]{1,39}", value)
    if validators.problem_with_compose_project(value) == "":
        assert re.fullmatch("[a-z0-9][a-z0-9_-]*", value)


@pytest.mark.parametrize("function", [name for name in dir(validators) if name.startswith("problem_with_")])
@given(text=st.text(max_size=60))
def test_no_validator_stumbles(function: str, text: str) -> None:
    arguments: tuple[object, ...] = (text, 1, 2) if function.endswith("count") else (text,)
    if function.endswith(("count", "destination")):
        return
    problem = getattr(validators, function)(*arguments)
    assert problem == "" or problem.rstrip()[-1] in ".:*)" or problem[-1].isalnum() or problem[-1] in "/-"


@pytest.mark.parametrize(("text", "names"), [("", []), (" a  b ", ["a", "b"]), ("a,b, c", ["a", "b", "c"]), (",", [])])
def test_lists_are_split_at_spaces_and_commas(text: str, names: list[str]) -> None:
    assert validators.split_names(text) == names


@pytest.mark.parametrize(("value", "fits"), [(1, True), (5, True), (0, False), (6, False)])
def test_numbers_have_bounds(value: int, fits: bool) -> None:
    assert (validators.problem_with_count(value, 1, 5) == "") == fits
