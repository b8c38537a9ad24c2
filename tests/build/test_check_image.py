"""infra/bin/check-image: lets an image through that knows no environment, and names what ties another to one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from subprocess import CompletedProcess

Files = dict[str, bytes]

# What an image of a Next.js front end and of a .NET program holds, next to things that are nobody's mistake.
CLEAN: Files = {
    "app/apps/web/server.js": b"require('next').start(process.env.PORT)",
    "app/apps/web/.next/static/chunks/main.js": b"fetch('/api/orders')",
    "app/apps/web/.env.example": b"API_BASE_URL=\n",
    "app/node_modules/some-package/.env": b"EXAMPLE=1\n",
    "app/node_modules/some-package/index.js": b"// seen at shop.example.com",
    "app/appsettings.json": b'{"Logging": {"LogLevel": {"Default": "Information"}}}',
    "app/empty": b"",
    "etc/hostname": b"myshop.example.com shop.example.community shop.example.com-old.test\n",
    "usr/lib/os-release": b"HOME_URL=https://shop.example.com\n",
}


@pytest.fixture
def examine(rendered: Callable[[str], Path]) -> Callable[..., CompletedProcess[str]]:
    """Runs the script on images."""
    require("jq")

    def run_script(*images: Path | str, project: Path | None = None) -> CompletedProcess[str]:
        return run([(project or rendered("default")) / "infra/bin/check-image", *images], check=False)

    return run_script


def unpack(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write an unpacked file system."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def layout(folder: Path, *layers: Mapping[str, bytes], env: list[str] | None = None) -> Path:
    """Write an OCI layout as BuildKit does: image and attestations in an index, inside the layout's index."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, kind: str, **more: object) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}

    def document(content: Mapping[str, object], kind: str, **more: object) -> dict[str, object]:
        return add(json.dumps({"schemaVersion": 2, "mediaType": kind, **content}).encode(), kind, **more)

    packed = []
    for number, files in enumerate(layers):
        archive = io.BytesIO()
        # Layers come compressed or not.
        with tarfile.open(fileobj=archive, mode="w:gz" if number % 2 == 0 else "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                entry.mode = 0o000
                tar.addfile(entry, io.BytesIO(data))
        packed.append(add(archive.getvalue(), "application/vnd.oci.image.layer.v1.tar+gzip"))
    settings = json.dumps({"config": {"Env": env or ["PATH=/usr/bin"]}}).encode()
    config = add(settings, "application/vnd.oci.image.config.v1+json")
    manifest = "application/vnd.oci.image.manifest.v1+json"
    index = "application/vnd.oci.image.index.v1+json"
    attestation = document(
        {"config": config, "layers": [add(b"https://shop.example.com", "application/vnd.in-toto+json")]},
        manifest,
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    image = document({"config": config, "layers": packed}, manifest)
    inner = document({"manifests": [attestation, image]}, index)
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}), encoding="utf-8")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    return folder


def test_a_clean_file_system_passes(examine: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    told = examine(unpack(tmp_path / "root", CLEAN))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.endswith("knows no environment\n")


def test_a_clean_image_passes(examine: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    told = examine(layout(tmp_path / "image", CLEAN, {"app/more.txt": b"more"}))
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("app/.env", b"A=1\n", "/app/.env holds values. Add .env files to .dockerignore"),
        ("app/apps/web/.env.production", b"# x\nexport A='b'\n", "/app/apps/web/.env.production holds values"),
        (
            "app/apps/web/.next/static/chunks/1.js",
            b'(0,e.jsx)("p",{children:t.default.env.NEXT_PUBLIC_API_URL})',
            "/app/apps/web/.next/static/chunks/1.js uses NEXT_PUBLIC_API_URL, which is undefined in the browser",
        ),
        ("app/apps/web/.next/static/chunks/1.js", b"process.env['NEXT_PUBLIC_X']", "1.js uses NEXT_PUBLIC_X, which"),
        (
            "app/appsettings.Production.json",
            b'{"Origin": "https://API.Shop.Example.COM/"}',
            "contains shop.example.com",
        ),
        (
            "app/apps/web/.next/server/page.js",
            b"fetch('https://staging.shop.example.com')",
            "contains staging.shop.example.com",
        ),
        ("srv/config.ini", b"host = shop.example.com.\n", "/srv/config.ini contains shop.example.com"),
        ("usr/src/app/config.js", b"'shop.example.com'", "/usr/src/app/config.js contains shop.example.com"),
        (
            "app/Shop.dll",
            b"MZ\x00" + "https://shop.example.com/x".encode("utf-16-le"),
            "/app/Shop.dll contains shop.example.com",
        ),
    ],
)
@pytest.mark.parametrize("make", [unpack, layout])
def test_it_refuses(
    examine: Callable[..., CompletedProcess[str]],
    tmp_path: Path,
    make: Callable[..., Path],
    name: str,
    data: bytes,
    sentence: str,
) -> None:
    told = examine(make(tmp_path / "image", {**CLEAN, name: data}))
    assert told.returncode == 1
    assert sentence in told.stderr
    assert told.stderr.count("\n") == 1, "each problem is named once, and nothing else"


def test_it_refuses_what_a_later_layer_deletes(examine: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    told = examine(layout(tmp_path / "image", {"app/.env": b"A=1\n"}, {"app/.wh..env": b""}))
    assert told.returncode == 1
    assert "/app/.env holds values" in told.stderr


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("NEXT_PUBLIC_API_URL=/api", "its configuration sets NEXT_PUBLIC_API_URL. Remove the ENV line"),
        ("API_URL=https://api.staging.shop.example.com", "sets API_URL to a value with staging.shop.example.com"),
    ],
)
def test_it_refuses_a_configuration(
    examine: Callable[..., CompletedProcess[str]], tmp_path: Path, variable: str, sentence: str
) -> None:
    told = examine(layout(tmp_path / "image", CLEAN, env=["PATH=/usr/bin", variable]))
    assert told.returncode == 1
    assert sentence in told.stderr


def test_one_bad_image_among_several_fails_and_the_others_are_examined(
    examine: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    bad, good = unpack(tmp_path / "bad", {"app/.env": b"A=1\n"}), unpack(tmp_path / "good", CLEAN)
    told = examine(bad, good)
    assert told.returncode == 1
    assert told.stdout == f"{good}: knows no environment\n"


def test_a_project_can_allow_a_text(
    examine: Callable[..., CompletedProcess[str]], project: Path, tmp_path: Path
) -> None:
    (project / "infra/custom/image-texts").write_text("NEXT_PUBLIC_VENDOR\nshop.example.com\n", encoding="utf-8")
    image = {
        "app/apps/web/.next/static/1.js": b"process.env.NEXT_PUBLIC_VENDOR",
        "app/mail.txt": b"from: orders@shop.example.com",
        "app/other.txt": b"staging.shop.example.com",
    }
    told = examine(unpack(tmp_path / "image", image), project=project)
    assert told.stderr.count("\n") == 1
    assert "/app/other.txt contains staging.shop.example.com" in told.stderr


def test_an_image_that_is_not_there_is_no_clean_image(
    examine: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    (empty / "blobs").mkdir(parents=True)
    (empty / "index.json").write_text('{"manifests": []}', encoding="utf-8")
    assert examine(empty).returncode == 1
    assert examine("no.such.registry.invalid/image:1").returncode == 1


@pytest.mark.parametrize("fact", ["PRODUCTION_DOMAIN", "STAGING_DOMAIN"])
def test_without_the_domains_no_image_is_clean(
    examine: Callable[..., CompletedProcess[str]], project: Path, tmp_path: Path, fact: str
) -> None:
    conf = project / "infra/deploy.conf"
    conf.write_text(conf.read_text(encoding="utf-8").replace(fact, "X"), encoding="utf-8")
    told = examine(unpack(tmp_path / "root", CLEAN), project=project)
    assert told.returncode == 1
    assert f"infra/deploy.conf has no {fact}" in told.stderr
