"""Pins: each version stands once, an update bot can find it, and the templates use it."""

from __future__ import annotations

import re

import pins
import pytest
import update_pins

from tests import rendering

TEMPLATE = rendering.ROOT / "template"
PINS_FILE = rendering.ROOT / "extensions" / "pins.toml"
DIGEST = "sha256:" + "0123456789abcdef" * 4


def template_text() -> str:
    """Everything that templates and the questions say."""
    return "\n".join(
        (TEMPLATE / name).read_text(encoding="utf-8", errors="replace") for name in rendering.files(TEMPLATE)
    )


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ("images", "actions", "hooks", "versions") for name in pins.load()[kind]],
)
def test_every_pin_is_used(kind: str, name: str) -> None:
    # Some names are put together from an answer: 'postgres-' ~ postgres_version, 'aspnet-' ~ dotnet_image.
    computed = {"postgres-": "pinned_image(postgres_pin)", "aspnet-": "'aspnet-' ~ dotnet_image"}
    needle = next((use for prefix, use in computed.items() if name.startswith(prefix)), f"'{name}'")
    if name in {"caddy", "nginx", "restic"}:
        needle = "other_images"
    assert needle in template_text(), f"nothing uses the {kind} pin {name}"


@pytest.mark.parametrize("name", pins.load()["actions"])
def test_an_action_is_pinned_by_its_full_commit_with_the_version_beside_it(name: str) -> None:
    assert re.fullmatch(rf"{re.escape(name)}@[0-9a-f]{{40}} # v\d+\.\d+\.\d+", pins.pinned_action(name))


@pytest.mark.parametrize("name", pins.load()["images"])
def test_an_image_is_pinned_by_a_tag_that_is_not_latest(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9./-]+:(?!latest)[\w.-]+(@sha256:[0-9a-f]{64})?", pins.pinned_image(name))


def test_no_template_writes_a_version_of_its_own() -> None:
    # An image with a tag, an action with a commit. Examples in custom/ are the user's to change.
    literal = re.compile(r"(?:docker\.io|ghcr\.io|mcr\.microsoft\.com)/[\w./-]+:[\w]|uses: [\w/-]+@")
    texts = {
        name: (TEMPLATE / name).read_text(encoding="utf-8")
        for name in rendering.files(TEMPLATE)
        if "infra/custom/" not in name
    }
    assert {name: found for name, text in texts.items() if (found := literal.findall(text))} == {}


@pytest.fixture(scope="module")
def bot_patterns() -> list[re.Pattern[str]]:
    """The expressions with which the update bot finds pins."""
    text = (rendering.ROOT / "renovate.json5").read_text(encoding="utf-8")
    blocks = text[text.index("customManagers") :]
    found = re.findall(r"^\s+'(image = .+|\".+)',$", blocks, re.MULTILINE)
    return [re.compile(pattern.replace("\\\\", "\\").replace("(?<", "(?P<")) for pattern in found]


def test_the_update_bot_finds_every_image_action_and_hook(bot_patterns: list[re.Pattern[str]]) -> None:
    text = PINS_FILE.read_text(encoding="utf-8")
    found = {match["depName"] for pattern in bot_patterns for match in pattern.finditer(text)}
    names = {pin["image"] for pin in pins.load()["images"].values()}
    assert found == names | set(pins.load()["actions"]) | set(pins.load()["hooks"])


def test_digests_are_filled_in_and_all_else_stays() -> None:
    text = PINS_FILE.read_text(encoding="utf-8")
    filled, changed, failed = update_pins.fill(text, lambda _: DIGEST)
    assert failed == []
    assert len(changed) == len(pins.load()["images"])
    assert re.sub(r'digest = "[^"]*"', "", filled) == re.sub(r'digest = "[^"]*"', "", text)
    assert update_pins.fill(filled, lambda _: DIGEST)[1] == []


def test_a_registry_that_does_not_answer_loses_no_digest() -> None:
    filled = update_pins.fill(PINS_FILE.read_text(encoding="utf-8"), lambda _: DIGEST)[0]

    def refuse(reference: str) -> str:
        raise RuntimeError(f"cannot reach the registry of {reference}")

    again, changed, failed = update_pins.fill(filled, refuse)
    assert again == filled
    assert changed == []
    assert len(failed) == len(pins.load()["images"])


def test_a_digest_is_part_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = {"images": {"x": {"image": "docker.io/library/x", "tag": "1", "digest": DIGEST}}}
    monkeypatch.setattr(pins, "load", lambda: pinned)
    assert pins.pinned_image("x") == f"docker.io/library/x:1@{DIGEST}"
