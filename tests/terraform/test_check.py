"""infra/bin/check terraform, and the job that runs it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.build.conftest import make_project
from tests.build.test_workflows import workflow
from tests.terraform.conftest import SETTINGS
from tests.tooling import require, run, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

__all__ = ["make_project"]


@pytest.fixture
def project(make_project: Callable[[str], Path]) -> Path:
    """A project that chose Terraform, committed."""
    return make_project("terraform")


def check(project: Path, *names: str, **env: str) -> CompletedProcess[str]:
    """Run the script."""
    require("terraform", version="1.11", version_args=["version"])
    if not SETTINGS.is_file():
        unavailable("Terraform's providers are not built: run .ci/install-tools")
    settings = {"TF_CLI_CONFIG_FILE": str(SETTINGS), **env}
    return run([project / "infra/bin/check", *names], cwd=project, env=settings, check=False)


def test_a_fresh_project_passes_and_nothing_is_written_into_it(project: Path) -> None:
    told = check(project, "terraform")
    assert told.returncode == 0, told.stdout
    assert "note: infra/terraform has no .terraform.lock.hcl" in told.stdout
    assert run(["git", "status", "--porcelain", "--ignored"], cwd=project).stdout == ""


def test_what_somebody_breaks_is_found(project: Path) -> None:
    folder = project / "infra/terraform"
    for file, old, new, said in (
        ("custom.tf", "", "locals {\na = 1\n}\n", "not formatted (terraform fmt -recursive infra/terraform)"),
        ("servers.tf", "keep_disk ", "keep_dsk  ", "infra/terraform is not valid: "),
        ("firewall.tf", "= var.admin_networks", "= local.everywhere", "a test in infra/terraform/tests fails: "),
        (".terraform.lock.hcl", "", "nonsense {}\n", "Terraform cannot prepare infra/terraform: "),
    ):
        path = folder / file
        right = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(right.replace(old, new) if old else right + new, encoding="utf-8")
        told = check(project, "terraform")
        assert told.returncode == 1, file
        assert said in told.stdout, told.stdout
        path.write_text(right, encoding="utf-8")


def test_files_that_hold_what_resources_hold_must_be_ignored(project: Path) -> None:
    (project / ".gitignore").write_text(".env\n", encoding="utf-8")
    told = check(project, "terraform")
    assert told.returncode == 1
    for file in ("terraform.tfstate", "apply.tfplan", ".terraform/providers", "crash.log"):
        assert f"Git does not ignore infra/terraform/{file}: add it to .gitignore" in told.stdout


def test_the_operators_own_state_and_backend_stay_out_of_it(project: Path) -> None:
    folder = project / "infra/terraform"
    (folder / ".terraform").mkdir()
    (folder / ".terraform/terraform.tfstate").write_text("not a state", encoding="utf-8")
    (folder / "terraform.tfstate").write_text("not a state either", encoding="utf-8")
    assert check(project, "terraform").returncode == 0


def test_without_terraform_it_says_what_to_install(project: Path, tmp_path: Path) -> None:
    for tool in ("bash", "basename", "cat", "dirname", "env", "git", "grep", "mktemp", "rm", "sed", "tr"):
        (tmp_path / tool).symlink_to(require(tool))
    told = run([project / "infra/bin/check", "terraform"], env={"PATH": str(tmp_path)}, check=False)
    assert told.returncode == 1
    assert "terraform is not here: install it" in told.stdout


def test_it_is_a_check_only_where_terraform_was_chosen(rendered: Callable[[str], Path], project: Path) -> None:
    assert "terraform" in check(project, "--list").stdout.split()
    assert "terraform" not in check(rendered("default"), "--list").stdout.split()
    told = check(rendered("default"), "terraform")
    assert told.returncode == 1
    assert "there is no check terraform" in told.stderr


def test_the_workflow_runs_it_where_terraform_was_chosen(rendered: Callable[[str], Path]) -> None:
    jobs = workflow(rendered("terraform"), "infra")["jobs"]
    job = jobs["terraform"]
    assert job["permissions"] == {"contents": "read"}
    assert "env" not in job, "it needs no account"
    assert [step.get("run") for step in job["steps"]][-1] == "infra/bin/check terraform"
    (setup,) = [step for step in job["steps"] if "setup-terraform" in step.get("uses", "")]
    assert re.fullmatch(r"hashicorp/setup-terraform@[0-9a-f]{40}", setup["uses"])
    assert re.fullmatch(r"1\.\d+\.\d+", setup["with"]["terraform_version"])
    assert "terraform" in jobs["infra"]["needs"]
    assert "terraform" not in workflow(rendered("default"), "infra")["jobs"]
