"""Terraform with the real providers, and projects that are its to change."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests import tooling

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

FOLDER = tooling.REPO / ".cache/tools/terraform"
SETTINGS = FOLDER / "terraform.rc"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxpc3RlbmluZ3RvdGhlc2Vh anna"
# What belongs to this provider alone: a registry may refuse to hand it out.
RARE = {"ovh/ovh": "database.tf"}


def has_provider(name: str) -> bool:
    """Tell whether .ci/install-tools could build a provider."""
    return any((FOLDER / "providers/registry.terraform.io" / name).glob("*/*/terraform-provider-*"))


def terraform(folder: Path, *words: str, check: bool = True, **env: str) -> CompletedProcess[str]:
    """Run Terraform in a folder, with the providers of .ci/install-tools and nothing of this machine's own settings."""
    program = tooling.require("terraform", version="1.11", version_args=["version"])
    if not SETTINGS.is_file():
        tooling.unavailable("Terraform's providers are not built: run .ci/install-tools")
    clean = {name: "" for name in os.environ if name.startswith(("TF_", "HCLOUD_", "OS_", "OVH_", "AWS_"))}
    settings = {"TF_CLI_CONFIG_FILE": str(SETTINGS), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
    return tooling.run([program, *words], cwd=folder, env={**clean, **settings, **env}, check=check)


def made_usable(project: Path, destination: Path) -> Path:
    """Copy what Terraform gets in a project, without the parts whose provider cannot be had here."""
    folder = shutil.copytree(project / "infra/terraform", destination)
    for provider, file in RARE.items():
        if (folder / file).exists() and not has_provider(provider):
            (folder / file).unlink()
            for test in folder.glob("tests/*"):
                text = test.read_text(encoding="utf-8").replace('mock_provider "ovh" {}\n', "")
                text = "".join(
                    line
                    for line in text.splitlines(keepends=True)
                    if not line.lstrip().startswith(("cloud_project ", "database_version "))
                )
                test.write_text(text.partition('run "databases"')[0], encoding="utf-8")
    return folder


@pytest.fixture
def configuration(rendered: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """The Terraform folders of rendered projects, ready to be initialised without a backend."""

    def make(profile: str) -> Path:
        return made_usable(rendered(profile), tmp_path / "terraform")

    return make
