"""The workflows: what they may do, and the shell in them, run for real."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import rendering
from tests.build.conftest import commit
from tests.build.test_check import CHECKS
from tests.tooling import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

WORKFLOWS = ["infra", "build"]
PROFILES = ["default", "everything", "api-only"]
# Every way of reaching a server.
DELIVERIES = ["default", "nginx-managed", "runner", "everything"]


def workflow(project: Path, name: str) -> dict[str, Any]:
    """Read a workflow."""
    text = (project / f".github/workflows/{name}.yml").read_text(encoding="utf-8")
    # YAML 1.1 would read the key "on" as true.
    content: dict[str, Any] = yaml.safe_load(text.replace("\non:\n", "\n'on':\n", 1))
    return content


def steps(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Go through all steps with their jobs' names."""
    for job, details in content["jobs"].items():
        for step in details["steps"]:
            yield job, step


def step(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Find a step by its name."""
    return next(found for _, found in steps(content) if found["name"] == name)


def run_shell(found: dict[str, Any], cwd: Path, **env: str) -> CompletedProcess[str]:
    """Run a step's script as GitHub does, and return what it did."""
    shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", found["run"]]
    return run(shell, cwd=cwd, env=env, check=False)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_granted_that_a_job_does_not_ask_for(
    rendered: Callable[[str], Path], profile: str, name: str
) -> None:
    content = workflow(rendered(profile), name)
    assert content["permissions"] == {}
    for job, details in content["jobs"].items():
        allowed = {"contents": "read"}
        if job == "images":
            allowed["packages"] = "write"
        if job == "staging":
            allowed = {"actions": "write"}
        assert details.get("permissions", {}).items() <= allowed.items()
        assert details["timeout-minutes"] <= 45
    for _, found in steps(content):
        assert "${{" not in found.get("run", ""), "what comes from outside reaches a script by its environment only"
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", found.get("uses", "a/b@" + "0" * 40))
        if "actions/checkout" in found.get("uses", ""):
            assert found["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_always_runs_and_one_job_waits_for_all_others(rendered: Callable[[str], Path], name: str) -> None:
    content = workflow(rendered("default"), name)
    assert content["on"]["pull_request"] is None, "a filter here would leave the required check pending for ever"
    gate = content["jobs"][name]
    assert gate["if"] == "always()"
    assert sorted(gate["needs"]) == sorted(set(content["jobs"]) - {name})


@pytest.mark.parametrize("name", WORKFLOWS)
@pytest.mark.parametrize(
    ("results", "status"),
    [("success success", 0), ("success skipped", 0), ("success failure", 1), ("cancelled skipped", 1)],
)
def test_the_gate_is_red_when_a_job_failed_or_was_cancelled(
    rendered: Callable[[str], Path], name: str, results: str, status: int
) -> None:
    project = rendered("default")
    gate = workflow(project, name)["jobs"][name]["steps"][-1]
    assert gate["env"]["RESULTS"] == "${{ join(needs.*.result, ' ') }}"
    assert run_shell(gate, project, RESULTS=results).returncode == status


def test_the_infra_workflow_runs_every_check_by_its_name(rendered: Callable[[str], Path]) -> None:
    commands = [found.get("run", "") for _, found in steps(workflow(rendered("default"), "infra"))]
    ran = [command.removeprefix("infra/bin/check ") for command in commands if command.startswith("infra/bin/check ")]
    assert sorted(ran) == sorted(CHECKS)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("infra/custom/compose.yml", "true"),
        (".github/workflows/build.yml", "true"),
        ("Dockerfile.api", "true"),
        (".env.example", "true"),
        ("apps/web/page.tsx", "false"),
        ("README.md", "false"),
    ],
)
def test_the_checks_run_when_the_infrastructure_changed(
    project: Path, tmp_path: Path, file: str, expected: str
) -> None:
    base = run(["git", "rev-parse", "HEAD"], cwd=project).stdout.strip()
    (project / file).parent.mkdir(parents=True, exist_ok=True)
    with (project / file).open("a", encoding="utf-8") as changed:
        changed.write("# changed\n")
    commit(project)
    compare = step(workflow(project, "infra"), "Compare with the base")
    output = tmp_path / "output"
    assert run_shell(compare, project, BASE=base, GITHUB_OUTPUT=str(output)).returncode == 0
    assert output.read_text(encoding="utf-8") == f"infra={expected}\n"


@pytest.mark.parametrize("base", ["", "0" * 40])
def test_without_a_base_everything_is_checked(project: Path, tmp_path: Path, base: str) -> None:
    compare = step(workflow(project, "infra"), "Compare with the base")
    output = tmp_path / "output"
    assert run_shell(compare, project, BASE=base, GITHUB_OUTPUT=str(output)).returncode == 0
    assert output.read_text(encoding="utf-8") == "infra=true\n"


@pytest.mark.parametrize("profile", PROFILES)
def test_images_are_examined_and_scanned_before_they_are_pushed(rendered: Callable[[str], Path], profile: str) -> None:
    names = [found["name"] for found in workflow(rendered(profile), "build")["jobs"]["images"]["steps"]]
    order = ["Build", "Examine", "Scan", "Log in to the registry", "Push with its attestations", "Keep its digest"]
    assert [name for name in names if name in order] == order


def test_a_pull_request_pushes_and_records_nothing(rendered: Callable[[str], Path]) -> None:
    content = workflow(rendered("default"), "build")
    images = content["jobs"]["images"]
    assert images["env"]["PUSH"] == "${{ github.event_name != 'pull_request' && github.ref == 'refs/heads/main' }}"
    for name in ("Log in to the registry", "Push with its attestations", "Keep its digest"):
        assert step(content, name)["if"] == "env.PUSH == 'true'"
    assert content["jobs"]["record"]["if"] == "github.event_name != 'pull_request' && github.ref == 'refs/heads/main'"


def test_only_what_was_tested_is_recorded(rendered: Callable[[str], Path]) -> None:
    assert workflow(rendered("default"), "build")["jobs"]["record"]["needs"] == ["test", "images", "migrations"]
    assert workflow(rendered("everything"), "build")["jobs"]["record"]["needs"] == ["test", "images"]


def test_a_repository_without_front_ends_needs_no_node(rendered: Callable[[str], Path]) -> None:
    project = rendered("api-only")
    text = (project / ".github/workflows/build.yml").read_text(encoding="utf-8")
    text += (project / "infra/custom/test").read_text(encoding="utf-8")
    assert not re.search("node|pnpm|NEXT_", text)


def test_images_are_built_on_the_servers_processor(rendered: Callable[[str], Path]) -> None:
    assert workflow(rendered("default"), "build")["jobs"]["images"]["runs-on"] == "ubuntu-24.04"
    assert workflow(rendered("arm64"), "build")["jobs"]["images"]["runs-on"] == "ubuntu-24.04-arm"


def test_the_registry_decides_the_credentials(rendered: Callable[[str], Path]) -> None:
    login = "Log in to the registry"
    assert step(workflow(rendered("default"), "build"), login)["with"] == {
        "registry": "ghcr.io",
        "username": "${{ github.actor }}",
        "password": "${{ github.token }}",
    }
    other = workflow(rendered("everything"), "build")
    assert step(other, login)["with"] == {
        "registry": "registry.example.org:5000",
        "username": "${{ secrets.REGISTRY_USERNAME }}",
        "password": "${{ secrets.REGISTRY_TOKEN }}",
    }
    assert "packages" not in other["jobs"]["images"]["permissions"]


# ----- The way to the servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", DELIVERIES)
def test_one_change_at_a_time_and_none_is_ended_half_way(rendered: Callable[[str], Path], profile: str) -> None:
    change = workflow(rendered(profile), "deploy")["jobs"]["change"]
    assert change["concurrency"] == {"group": "deploy-${{ inputs.environment }}", "cancel-in-progress": False}
    assert change["environment"]["name"] == "${{ inputs.environment }}"
    assert "github.ref == 'refs/heads/main'" in change["if"]


@pytest.mark.parametrize("profile", DELIVERIES)
def test_a_deploy_is_granted_what_its_jobs_ask_for(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    content = workflow(project, "deploy")
    assert content["permissions"] == {}
    pulls = "pull" in {path.name for path in (project / "infra/bin").iterdir()}
    ghcr = "REGISTRY=ghcr.io" in (project / "infra/deploy.conf").read_text(encoding="utf-8")
    packages = {"packages": "write" if pulls else "read"} if ghcr else {}
    assert content["jobs"]["staging"]["permissions"] == {"contents": "read"}
    assert content["jobs"]["change"]["permissions"] == {"contents": "read", "actions": "read", **packages}
    for _, found in steps(content):
        assert "${{" not in found.get("run", ""), "what comes from outside reaches a script by its environment only"
        # The key is there for the steps that use it, and for no others.
        orders = re.search(r'infra/bin/(remote|order "\$ENVIRONMENT" (?!live))', found.get("run", ""))
        assert ("SSH_KEY" in found.get("env", {})) == bool(orders), found["name"]


def test_the_approval_decides_who_starts_production(rendered: Callable[[str], Path]) -> None:
    assert set(workflow(rendered("default"), "deploy")["jobs"]) == {"staging", "change"}
    asked = workflow(rendered("everything"), "deploy")["jobs"]["ask"]
    assert asked["permissions"] == {"actions": "write"}
    assert "--field action=promote --field environment=production" in asked["steps"][0]["run"]


def test_the_answer_decides_how_a_server_is_reached(rendered: Callable[[str], Path]) -> None:
    default = workflow(rendered("default"), "deploy")["jobs"]["change"]["steps"]
    names = [found["name"] for found in default]
    assert names.index("Open the firewall for this job") < names.index("Deploy") < names.index("Close the firewall")
    assert default[-1]["name"] == "Close the firewall"
    assert default[-1]["if"] == "always()"
    runner = workflow(rendered("runner"), "deploy")["jobs"]
    assert {job["runs-on"][0] for job in runner.values()} == {"self-hosted"}
    pulled = (rendered("everything") / ".github/workflows/deploy.yml").read_text(encoding="utf-8")
    assert "infra/bin/remote" not in pulled
    assert "infra/bin/order staging live" in pulled


@pytest.mark.parametrize("profile", ["default", "runner"])
def test_the_history_of_backups_is_asked_for_every_month(
    rendered: Callable[[str], Path], profile: str, tmp_path: Path
) -> None:
    content = workflow(rendered(profile), "backups")
    assert content["on"]["schedule"] == [{"cron": "23 6 1 * *"}]
    job = content["jobs"]["history"]
    assert job["environment"] == "production"
    assert job["permissions"] == {"contents": "read"}
    names = [found["name"] for found in job["steps"]]
    firewall = ["Open the firewall for this job", "Close the firewall"] if profile == "default" else []
    assert names == ["Check out", *firewall[:1], "Ask", *firewall[1:]]

    remote = tmp_path / "infra/bin/remote"
    remote.parent.mkdir(parents=True)
    remote.write_text("#!/bin/sh\necho asked: $*; echo '!! too old' >&2; exit $CODE\n", encoding="utf-8")
    remote.chmod(0o755)
    for code in ("0", "1"):
        summary = tmp_path / f"summary-{code}"
        told = run_shell(step(content, "Ask"), tmp_path, GITHUB_STEP_SUMMARY=str(summary), CODE=code)
        assert told.returncode == int(code)
        assert summary.read_text(encoding="utf-8") == "```\nasked: production backups\n!! too old\n```\n"
        assert ("::error::backups of production: !! too old" in told.stdout) == (code == "1")


def test_where_the_pipeline_does_not_reach_the_server_nobody_asks(rendered: Callable[[str], Path]) -> None:
    assert not (rendered("everything") / ".github/workflows/backups.yml").exists()
    assert not (rendered("minimal") / ".github/workflows/backups.yml").exists()


@pytest.mark.parametrize(
    ("action", "environment", "allowed"),
    [
        ("deploy", "staging", True),
        ("promote", "production", True),
        ("rollback", "production", True),
        ("redeploy", "staging", True),
        ("deploy", "production", False),
        ("promote", "staging", False),
    ],
)
def test_production_gets_only_what_staging_runs(
    rendered: Callable[[str], Path], action: str, environment: str, *, allowed: bool
) -> None:
    project = rendered("default")
    refuse = step(workflow(project, "deploy"), "Refuse what has no meaning")
    known = {"ACTION": action, "ENVIRONMENT": environment, "RELEASE": "r1", "SHA256": "0" * 64}
    assert (run_shell(refuse, project, **known).returncode == 0) == allowed
    # A staging server that tells nothing promotes nothing: an empty name would be the newest release.
    silent = run_shell(refuse, project, **{**known, "RELEASE": "", "SHA256": ""})
    assert (silent.returncode == 0) == (action in {"rollback", "redeploy"})


def test_a_build_goes_on_to_staging_only_when_it_is_told_to(rendered: Callable[[str], Path]) -> None:
    staging = workflow(rendered("default"), "build")["jobs"]["staging"]
    assert staging["if"] == "vars.DEPLOYS == 'on'"
    assert staging["needs"] == "record"
    assert staging["permissions"] == {"actions": "write"}


# ----- Updates of the template ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [*DELIVERIES, "minimal"])
def test_whoever_runs_the_templates_code_may_change_nothing(rendered: Callable[[str], Path], profile: str) -> None:
    content = workflow(rendered(profile), "update-standard")
    assert content["permissions"] == {}
    assert content["jobs"].keys() == {"prepare", "propose"}
    for job in content["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        # Not inside anybody's admin network, whichever way a server is reached.
        assert job["runs-on"] == "ubuntu-24.04"
        assert job["timeout-minutes"] <= 30
    tokens = {
        job: [found["name"] for name, found in steps(content) if name == job and "UPDATE_TOKEN" in str(found)]
        for job in content["jobs"]
    }
    assert tokens == {"prepare": [], "propose": ["Open or refresh the pull request"]}
    assert "copier" not in str(content["jobs"]["propose"]).lower()
    for _, found in steps(content):
        assert "${{" not in found.get("run", ""), "what comes from outside reaches a script by its environment only"
        if "actions/checkout" in found.get("uses", ""):
            assert found["with"]["persist-credentials"] is False


def test_copier_is_installed_in_the_versions_that_the_template_is_tested_with(rendered: Callable[[str], Path]) -> None:
    text = (rendered("default") / "infra/copier.txt").read_text(encoding="utf-8")
    lock = (rendering.ROOT / "requirements/copier.txt").read_text(encoding="utf-8")
    pattern = re.compile(r"^([\w.-]+==\S+|    --hash=sha256:[0-9a-f]{64})", re.MULTILINE)
    assert pattern.findall(text) == pattern.findall(lock)
    assert "copier==" in text
    assert "copier-template-extensions==" in text
    install = step(workflow(rendered("default"), "update-standard"), "Install Copier")["run"]
    assert "--require-hashes --requirement infra/copier.txt" in install


def test_without_a_token_an_update_is_a_warning(rendered: Callable[[str], Path], tmp_path: Path) -> None:
    project = rendered("default")
    propose = step(workflow(project, "update-standard"), "Open or refresh the pull request")
    told = run_shell(propose, tmp_path, UPDATE_TOKEN="")
    assert told.returncode == 0
    assert told.stdout.startswith("::warning::")
    script = tmp_path / "infra/bin/update-standard"
    script.parent.mkdir(parents=True)
    script.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    assert run_shell(propose, tmp_path, UPDATE_TOKEN="x").stdout == "propose prepared\n"


@pytest.mark.parametrize(
    ("version", "words"), [("", "prepare prepared"), ("v1.2.3; id", "prepare prepared --to v1.2.3; id")]
)
def test_a_version_reaches_the_script_as_one_word(
    rendered: Callable[[str], Path], tmp_path: Path, version: str, words: str
) -> None:
    prepare = step(workflow(rendered("default"), "update-standard"), "Update a copy, and check it")
    script = tmp_path / "infra/bin/update-standard"
    script.parent.mkdir(parents=True)
    script.write_text(
        '#!/bin/sh\necho "$# $*" >&2\nmkdir prepared\nprintf "update=yes\\ntitle=x\\n" >prepared/facts\n'
        "echo body >prepared/body.md\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    output, summary = tmp_path / "output", tmp_path / "summary"
    env = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "RUNNER_TEMP": str(tmp_path)}
    told = run_shell(prepare, tmp_path, VERSION=version, **env)
    assert told.stderr == f"{4 if version else 2} {words}\n"
    assert output.read_text(encoding="utf-8") == "update=yes\n"
    assert summary.read_text(encoding="utf-8") == "body\n"


def test_an_update_that_touches_anything_is_checked_as_infrastructure(
    rendered: Callable[[str], Path], project: Path, tmp_path: Path
) -> None:
    compare = step(workflow(rendered("default"), "infra"), "Compare with the base")
    base = run(["git", "rev-parse", "HEAD"], cwd=project).stdout.strip()
    # As when a conflict is in a document alone.
    answers_file = project / ".copier-answers.yml"
    answers_file.write_text(answers_file.read_text(encoding="utf-8") + "new: answer\n", encoding="utf-8")
    commit(project)
    output = tmp_path / "output"
    assert run_shell(compare, project, BASE=base, GITHUB_OUTPUT=str(output)).returncode == 0
    assert output.read_text(encoding="utf-8") == "infra=true\n"
