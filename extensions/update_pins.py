"""Fill in the digests of the images in `pins.toml` (`make pins`), where their registries can be reached.

Versions and commits are bumped by Renovate (renovate.json5). Asks the registries through `docker buildx imagetools
inspect`, which needs no engine, so that credentials and mirrors are those of the Docker client.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

PINS = Path(__file__).with_name("pins.toml")


def digest_of(reference: str) -> str:
    """Return the digest of a tag's image index, as `sha256:…`.

    Raises:
        RuntimeError: the registry cannot be asked; the message is what the client said.
    """
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest.Digest}}", reference]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(str(error)) from error
    digest = result.stdout.strip().strip('"')
    if result.returncode != 0 or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise RuntimeError((result.stderr.strip() or "no digest in the answer").splitlines()[-1])
    return digest


def fill(text: str, resolve: Callable[[str], str]) -> tuple[str, list[str], list[str]]:
    """Return `text` with digests filled in, what changed, and what could not be resolved; all else is kept."""
    changed: list[str] = []
    failed: list[str] = []
    for name, pin in tomllib.loads(text)["images"].items():
        reference = f"{pin['image']}:{pin['tag']}"
        try:
            digest = resolve(reference)
        except RuntimeError as error:
            failed.append(f"{reference}: {error}")
            continue
        if digest != pin["digest"]:
            line = re.compile(rf'^({re.escape(name)} = {{.*digest = ")[^"]*(".*)$', re.MULTILINE)
            text = line.sub(rf"\g<1>{digest}\g<2>", text, count=1)
            changed.append(f"{reference}: {digest}")
    return text, changed, failed


def main() -> int:
    """Rewrite `pins.toml` and report; 1 when an image could not be resolved. What was resolved is kept either way."""
    text, changed, failed = fill(PINS.read_text(encoding="utf-8"), digest_of)
    PINS.write_text(text, encoding="utf-8")
    for line in changed:
        print("pinned ", line)
    for line in failed:
        print("skipped", line, file=sys.stderr)
    if failed:
        print(
            f"{len(failed)} images keep the digest that they had. Reach their registries and run `make pins` again.",
            file=sys.stderr,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
