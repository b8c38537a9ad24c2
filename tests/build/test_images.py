"""How images are built: bake file, Dockerfiles, build context, and the ban on migrating when a program starts."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
from docker.utils.build import exclude_paths
from pins import load

from tests.tooling import REPO, require, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Files of a repository that builds read.
WANTED = [
    ".config/dotnet-tools.json",
    ".npmrc",
    "Directory.Build.props",
    "Directory.Packages.props",
    "NuGet.config",
    "global.json",
    "package.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "tsconfig.base.json",
    "turbo.json",
    "patches/some.patch",
    "infra/dotnet/BannedSymbols.txt",
    "infra/dotnet/banned-api.targets",
    "apps/api/HarbourShop.slnx",
    "apps/api/src/HarbourShop.WebApi/Program.cs",
    "apps/web/package.json",
    "apps/web/next.config.ts",
    "apps/web/public/logo.svg",
    "packages/ui/bin/cli.js",
]
# Files that no builder may see.
UNWANTED = [
    ".env",
    ".env.local",
    ".git/config",
    ".github/workflows/build.yml",
    "README.md",
    "docs/notes.md",
    "infra/.env",
    "infra/deploy.conf",
    "infra/migrations/migrate.sql",
    "node_modules/next/index.js",
    "release.env",
    "apps/.env",
    "apps/web/.env",
    "apps/web/.env.production",
    "apps/web/node_modules/next/index.js",
    "apps/web/.next/server/page.js",
    "apps/web/.turbo/log",
    "apps/web/private.key",
    "apps/api/src/HarbourShop.WebApi/bin/Debug/x.dll",
    "apps/api/src/HarbourShop.WebApi/obj/project.assets.json",
    "apps/api/certificate.pfx",
]

PROFILES = ["default", "everything", "api-only", "chiseled", "arm64", "many-front-ends", "name-with-markup"]


def bake(project: Path, *targets: str, **env: str) -> dict[str, Any]:
    """Return what would be built."""
    require("docker-compose")  # comes with buildx, see .ci/install-tools
    command = ["docker", "buildx", "bake", "-f", "infra/docker-bake.hcl", "--print", *targets]
    told = run(command, cwd=project, env={"GITHUB_ACTIONS": "false", **env})
    plan: dict[str, Any] = json.loads(told.stdout)
    return plan


def facts(project: Path) -> dict[str, str]:
    """Read deploy.conf."""
    lines = (project / "infra/deploy.conf").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def dockerfiles(project: Path) -> dict[str, str]:
    """Return the Dockerfiles by what they are called after the dot."""
    found = {path.suffix[1:]: path.read_text(encoding="utf-8") for path in project.glob("Dockerfile.*")}
    postgres = project / "infra/pgbackrest/Dockerfile"
    return found | ({"postgres": postgres.read_text(encoding="utf-8")} if postgres.exists() else {})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_own_image_is_built_from_a_stage_that_is_there(rendered: Callable[[str], Path], profile: str) -> None:
    project = rendered(profile)
    conf = facts(project)
    plan = bake(project, GIT_SHA="0123abcd", BUILD_TIMESTAMP="2030-01-31T12:00:00Z")
    assert sorted(plan["group"]["default"]["targets"]) == sorted(conf["OWN_IMAGES"].split())
    for name, target in plan["target"].items():
        dockerfile = (project / target["dockerfile"]).read_text(encoding="utf-8")
        assert re.search(rf"^FROM .+ AS {target['target']}$", dockerfile, re.MULTILINE)
        assert target["tags"] == [f"{conf['IMAGE_REPOSITORY']}-{name}:0123abcd"]
        assert target["args"] == {"GIT_SHA": "0123abcd", "BUILD_TIMESTAMP": "2030-01-31T12:00:00Z"}
        assert target["labels"]["org.opencontainers.image.revision"] == "0123abcd"
        assert target["labels"]["org.opencontainers.image.created"] == "2030-01-31T12:00:00Z"
        # The engine's own builder, which a person has, knows neither.
        assert "attest" not in target
        assert "cache-from" not in target


def test_the_laboratorys_postgresql_is_made_by_the_generated_steps(rendered: Callable[[str], Path]) -> None:
    def steps(text: str) -> list[str]:
        return [
            line
            for line in re.sub(r"(?m)^#.*\n", "", text).splitlines()
            if not re.match(r"FROM|ARG|LABEL|  +org", line)
        ]

    ours = (REPO / "tests/lab/images/postgres-pgbackrest/Dockerfile").read_text(encoding="utf-8")
    generated = steps(dockerfiles(rendered("everything"))["postgres"])
    assert len(generated) > 4
    assert steps(ours)[: len(generated)] == generated


def test_the_servers_processor_decides_the_platform(rendered: Callable[[str], Path]) -> None:
    for profile, platform in (("default", "linux/amd64"), ("arm64", "linux/arm64")):
        assert all(target["platforms"] == [platform] for target in bake(rendered(profile))["target"].values())


def test_on_github_each_image_has_attestations_and_a_cache_of_its_own(rendered: Callable[[str], Path]) -> None:
    targets = bake(rendered("many-front-ends"), GITHUB_ACTIONS="true")["target"]
    for name, target in targets.items():
        assert (target["cache-from"][0]["scope"], target["cache-to"][0]["scope"]) == (name, name)
        assert {entry["type"] for entry in target["attest"]} == {"provenance", "sbom"}


def test_images_go_where_the_variable_says(rendered: Callable[[str], Path]) -> None:
    plan = bake(rendered("default"), "api", IMAGE_REPOSITORY="localhost:5000/trial", GIT_SHA="1")
    assert plan["target"]["api"]["tags"] == ["localhost:5000/trial-api:1"]


def test_the_migration_script_lands_where_compose_looks_for_it(rendered: Callable[[str], Path]) -> None:
    project = rendered("default")
    target = bake(project, "migrations")["target"]["migrations"]
    assert target["output"] == [{"dest": "infra/migrations", "type": "local"}]
    assert "COPY --from=script /out/migrate.sql /migrate.sql" in dockerfiles(project)["api"]


@pytest.mark.parametrize("profile", PROFILES)
def test_dockerfiles_are_pinned_unprivileged_and_know_no_environment(
    rendered: Callable[[str], Path], profile: str
) -> None:
    project = rendered(profile)
    pinned = {f"{pin['image']}:{pin['tag']}" for pin in load()["images"].values()}
    found = dockerfiles(project)
    assert sorted(found) == sorted(set(facts(project)["OWN_IMAGES"].split()) - {"migrate"})
    for name, text in found.items():
        stages = re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)
        assert stages[-1][1] == name, "without --target the image itself is built"
        own = {stage for _, stage in stages}
        assert {base.split("@")[0] for base, _ in stages} - own - {"scratch"} <= pinned
        assert set(re.findall(r"^ARG (\w+)", text, re.MULTILINE)) == {"GIT_SHA", "BUILD_TIMESTAMP"}
        # PostgreSQL's official entrypoint prepares its folders as root, and becomes another user then.
        users = {"api": ["$APP_UID"], "worker": ["$APP_UID"], "postgres": []}.get(name, ["node"])
        assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == users
        # In a comment the front ends' file says why there is none.
        assert not re.search(r"^[^#]*NEXT_PUBLIC_", text, re.MULTILINE)


@pytest.mark.parametrize(("profile", "expected"), [("chiseled", True), ("alpine", False), ("default", False)])
def test_where_the_base_has_no_program_for_the_health_check_one_is_added(
    rendered: Callable[[str], Path], profile: str, expected: bool
) -> None:
    for name in ("api", "worker"):
        text = dockerfiles(rendered(profile))[name]
        assert ("COPY --from=busybox /bin/busybox /usr/bin/busybox" in text) is expected


def test_the_folder_that_compose_makes_writable_is_the_one_of_next(rendered: Callable[[str], Path]) -> None:
    project = rendered("many-front-ends")
    compose = (project / "infra/docker-compose.prod.yml").read_text(encoding="utf-8")
    for name in ("web", "admin"):
        assert f'CMD ["node", "apps/{name}/server.js"]' in dockerfiles(project)[name]
        assert f"/app/apps/{name}/.next/cache:" in compose


def test_nothing_but_what_is_built_from_reaches_the_builder(rendered: Callable[[str], Path], tmp_path: Path) -> None:
    for name in [*WANTED, *UNWANTED]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = (rendered("default") / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    sent = {name for name in exclude_paths(str(tmp_path), patterns, dockerfile="") if (tmp_path / name).is_file()}
    assert sent == set(WANTED)


# ----- The ban on migrating at startup ------------------------------------------------------------------------------


def test_every_way_to_migrate_or_make_a_database_is_banned(rendered: Callable[[str], Path]) -> None:
    lines = (rendered("default") / "infra/dotnet/BannedSymbols.txt").read_text(encoding="utf-8").splitlines()
    banned = {line.split(";")[0] for line in lines}
    facade = "Microsoft.EntityFrameworkCore.Infrastructure.DatabaseFacade"
    extensions = "M:Microsoft.EntityFrameworkCore.RelationalDatabaseFacadeExtensions"
    token = "System.Threading.CancellationToken"
    assert banned == {
        f"{extensions}.Migrate({facade})",
        f"{extensions}.Migrate({facade},System.String)",
        f"{extensions}.MigrateAsync({facade},{token})",
        f"{extensions}.MigrateAsync({facade},System.String,{token})",
        "T:Microsoft.EntityFrameworkCore.Migrations.IMigrator",
        f"M:{facade}.EnsureCreated",
        f"M:{facade}.EnsureCreatedAsync({token})",
    }
    assert all(line.count(";") == 1 and "run-database-migration.md" in line for line in lines)


def test_the_targets_ban_it_as_an_error_outside_of_tests_and_apphost(rendered: Callable[[str], Path]) -> None:
    root = ET.parse(  # noqa: S314 - our own file
        rendered("default") / "infra/dotnet/banned-api.targets"
    ).getroot()
    version = load()["versions"]["banned-api-analyzers"]["version"]
    assert root.tag == "Project"
    assert root.findtext(".//_BannedApiVersion") == version
    assert root.findtext(".//WarningsAsErrors") == "$(WarningsAsErrors);RS0030"
    exceptions = " ".join(element.get("Condition", "") for element in root.findall(".//_BansMigration"))
    for exception in ("IsTestProject", "IsTestingPlatformApplication", "IsAspireHost", "AppHost"):
        assert exception in exceptions
    # No reference, which central package management and lock files would have to know.
    assert root.find(".//PackageReference") is None
    assert root.find(".//PackageDownload") is not None
    assert root.find(".//AdditionalFiles[@Include='$(MSBuildThisFileDirectory)BannedSymbols.txt']") is not None
    assert root.find(".//Target/Error") is not None, "a missing analyzer stops the build instead of allowing everything"


def test_every_dotnet_build_sees_the_ban(rendered: Callable[[str], Path]) -> None:
    project = rendered("default")
    for name in ("api", "worker"):
        text = dockerfiles(project)[name]
        ban = text.index("ENV CustomAfterMicrosoftCommonTargets=/src/infra/dotnet/banned-api.targets")
        for command in ("dotnet restore", "dotnet publish"):
            assert ban < text.index(command)
    test = (project / "infra/custom/test").read_text(encoding="utf-8")
    ban = test.index('export CustomAfterMicrosoftCommonTargets="$PWD/infra/dotnet/banned-api.targets"')
    assert ban < test.index("dotnet build") < test.index("dotnet test")
