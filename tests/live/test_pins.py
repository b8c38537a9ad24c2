"""`make pins` asks a real registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import update_pins

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.registry import Registry

pytestmark = pytest.mark.live

PIN = 'example = {{ image = "{image}", tag = "1", digest = "{digest}" }}\n'


def test_the_digest_of_a_tag_is_filled_in_and_follows_it(registry: Registry, app_image: Callable[..., str]) -> None:
    first = registry.push(app_image("api", "1"), "slipway/pinned", "1")
    image, _, digest = first.partition("@")
    image = image.removesuffix(":1")
    text, changed, failed = update_pins.fill("[images]\n" + PIN.format(image=image, digest=""), update_pins.digest_of)
    assert failed == []
    assert changed == [f"{image}:1: {digest}"]
    assert text == "[images]\n" + PIN.format(image=image, digest=digest)

    _, _, newer = registry.push(app_image("api", "2"), "slipway/pinned", "1").partition("@")
    text, changed, failed = update_pins.fill(text, update_pins.digest_of)
    assert (changed, failed) == ([f"{image}:1: {newer}"], [])
    assert newer != digest


def test_an_image_that_no_registry_has_is_named_and_keeps_its_digest() -> None:
    text = "[images]\n" + PIN.format(image="127.0.0.1:9/none", digest="sha256:" + "0" * 64)
    filled, changed, [failure] = update_pins.fill(text, update_pins.digest_of)
    assert (filled, changed) == (text, [])
    assert failure.startswith("127.0.0.1:9/none:1: ")
