"""infra/bin/record-images: every image of a release by its digest, or nothing."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.lab.registry import registry
from tests.tooling import require, run

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

OWN = {
    "API_IMAGE": f"ghcr.io/harbour/shop-api@sha256:{'a1' * 32}",
    "WORKER_IMAGE": f"ghcr.io/harbour/shop-worker@sha256:{'b2' * 32}",
    "WEB_IMAGE": f"ghcr.io/harbour/shop-web@sha256:{'c3' * 32}",
}
OTHERS = {
    "CADDY_IMAGE": f"docker.io/library/caddy:2.11.7-alpine@sha256:{'d4' * 32}",
    "POSTGRES_IMAGE": f"docker.io/library/postgres:18.3-bookworm@sha256:{'e5' * 32}",
    "RESTIC_IMAGE": f"docker.io/restic/restic:0.18.1@sha256:{'f7' * 32}",
}


@pytest.fixture
def pinned(project: Path) -> Path:
    """A project whose images of others are pinned by digest, so that no registry is asked."""
    conf = project / "infra/deploy.conf"
    text = conf.read_text(encoding="utf-8")
    for name, image in OTHERS.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={image}", text, flags=re.MULTILINE)
        assert count == 1
    conf.write_text(text, encoding="utf-8")
    return project


def record(project: Path, *arguments: str, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    """Run the script."""
    environment = {"GIT_SHA": "0123abcd", "BUILD_TIMESTAMP": "2030-01-31T12:00:00Z", **(env or {})}
    return run([project / "infra/bin/record-images", *arguments], env=environment, check=False)


def given(images: dict[str, str]) -> list[str]:
    """Write images as arguments."""
    return [f"{name}={image}" for name, image in images.items()]


def test_the_record_has_every_image_sorted_by_its_variable(pinned: Path) -> None:
    told = record(pinned, *given(OWN))
    assert told.returncode == 0, told.stderr
    first, *lines = told.stdout.splitlines()
    assert first == "# Images of harbour-shop at commit 0123abcd, built 2030-01-31T12:00:00Z"
    assert lines == sorted(given(OWN | OTHERS))


def test_the_same_images_give_the_same_record_in_any_order(pinned: Path, tmp_path: Path) -> None:
    output = tmp_path / "release.env"
    assert record(pinned, "--output", str(output), *given(OWN)).returncode == 0
    assert output.read_text(encoding="utf-8") == record(pinned, *reversed(given(OWN))).stdout


def test_images_of_ones_own_services_are_recorded_too(pinned: Path) -> None:
    image = f"CACHE_IMAGE=docker.io/valkey/valkey:9.0@sha256:{'f6' * 32}"
    with (pinned / "infra/custom/images.conf").open("a", encoding="utf-8") as file:
        file.write(f"{image}\n")
    assert image in record(pinned, *given(OWN)).stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            given({**OWN, "WEB_IMAGE": "ghcr.io/harbour/shop-web:1"}),
            "WEB_IMAGE is ghcr.io/harbour/shop-web:1, which has no digest",
        ),
        (given({**OWN, "WEB_IMAGE": "x@sha256:abc"}), "WEB_IMAGE is x@sha256:abc, which has no digest"),
        (given({**OWN, "WEB_IMAGE": ""}), "WEB_IMAGE is missing"),
        (given(OWN)[:2], "WEB_IMAGE is missing: every image in OWN_IMAGES"),
        (
            given({**OWN, "ADMIN_IMAGE": OWN["WEB_IMAGE"]}),
            "ADMIN_IMAGE is none of the images that this repository builds",
        ),
        (["--frobnicate"], "unknown option --frobnicate"),
    ],
)
def test_it_refuses(pinned: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    output = tmp_path / "release.env"
    told = record(pinned, "--output", str(output), *arguments)
    assert told.returncode == 1
    assert sentence in told.stderr
    assert not output.exists()


def test_a_variable_that_is_recorded_twice_is_refused(pinned: Path) -> None:
    with (pinned / "infra/custom/images.conf").open("a", encoding="utf-8") as file:
        file.write(f"WEB_IMAGE=x@sha256:{'00' * 32}\n")
    told = record(pinned, *given(OWN))
    assert told.returncode == 1
    assert "WEB_IMAGE is recorded twice" in told.stderr


def test_without_an_answer_of_the_registry_nothing_is_recorded(pinned: Path, tmp_path: Path) -> None:
    for program in ("docker", "jq"):
        require(program)
    conf = pinned / "infra/deploy.conf"
    text = conf.read_text(encoding="utf-8").replace(OTHERS["CADDY_IMAGE"], "127.0.0.1:9/caddy:2")
    conf.write_text(text, encoding="utf-8")
    output = tmp_path / "release.env"
    told = record(pinned, "--output", str(output), *given(OWN))
    assert told.returncode == 1
    assert "the registry gave no digest of 127.0.0.1:9/caddy:2 (CADDY_IMAGE)" in told.stderr
    assert not output.exists()


def test_facts_are_read_as_data(pinned: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sourced"
    with (pinned / "infra/deploy.conf").open("a", encoding="utf-8") as file:
        file.write(f"touch {trap}\nX=$(touch {trap})\n")
    with (pinned / "infra/custom/images.conf").open("a", encoding="utf-8") as file:
        file.write(f"X_IMAGE=$(touch {trap})\n")
    assert record(pinned, *given(OWN)).returncode == 1
    assert not trap.exists()


@pytest.mark.parametrize("fact", ["OWN_IMAGES", "OTHER_IMAGES", "CADDY_IMAGE", "APP"])
def test_a_fact_that_is_missing_stops_it(pinned: Path, tmp_path: Path, fact: str) -> None:
    conf = pinned / "infra/deploy.conf"
    conf.write_text(re.sub(rf"(?m)^{fact}=.*\n", "", conf.read_text(encoding="utf-8")), encoding="utf-8")
    output = tmp_path / "release.env"
    told = record(pinned, "--output", str(output), *given(OWN))
    assert told.returncode == 1
    assert f"infra/deploy.conf has no {fact}" in told.stderr
    assert not output.exists()


@pytest.mark.live
def test_digests_of_others_come_from_their_registry(pinned: Path) -> None:
    require("docker-registry")
    config = b'{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}'
    kind = "application/vnd.oci.image.manifest.v1+json"
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    descriptor = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest,
        "size": len(config),
    }
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": descriptor, "layers": []}).encode()
    with registry() as host, httpx.Client(base_url=f"http://{host.host}/v2/caddy/") as client:
        upload = client.post("blobs/uploads/").headers["location"]
        client.put(f"{upload}&digest={digest}", content=config).raise_for_status()
        client.put("manifests/2.11", content=manifest, headers={"content-type": kind}).raise_for_status()
        conf = pinned / "infra/deploy.conf"
        text = conf.read_text(encoding="utf-8").replace(OTHERS["CADDY_IMAGE"], f"{host.host}/caddy:2.11")
        conf.write_text(text, encoding="utf-8")
        told = record(pinned, *given(OWN))
    assert told.returncode == 0, told.stderr
    expected = f"{host.host}/caddy:2.11@sha256:{hashlib.sha256(manifest).hexdigest()}"
    assert f"CADDY_IMAGE={expected}" in told.stdout.splitlines()
