"""The pipeline, run: from a push to production, by the generated workflows, through a firewall closed to the world."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import profiles, rendering
from tests.lab import hosts
from tests.lab import images as lab_images
from tests.lab.github import GitHub, Ran, pull_request_artifact
from tests.lab.hetzner import Hetzner, hetzner, web_and_admins
from tests.lab.registry import Registry
from tests.lab.server import MIGRATION
from tests.lab.shell import clean_environment, run
from tests.lab.vps import Repository, Vps

pytestmark = pytest.mark.live

TOKEN = "token-of-the-firewall"
OWN = {"api": "api", "worker": "worker", "web": "web"}
ENVIRONMENTS = ("staging", "production")


@dataclass
class World:
    """A project on GitHub, its two servers behind their provider's firewall, and everybody's addresses."""

    github: GitHub
    cloud: Hetzner
    internet: hosts.Internet
    staging: Vps
    production: Vps

    def build(self, version: str, **behaviour: str) -> Ran:
        """Push a commit whose build gives images of this version."""
        for name, kind in OWN.items():
            image = lab_images.app(kind, version, behaviour=behaviour.get(name, ""))
            self.github.take_in(image, name, MIGRATION)
        self.github.repository.commit(f"Version {version}")
        return self.github.act("push", "build")

    def deploy(self, inputs: dict[str, str]) -> Ran:
        """Run the workflow deploy, on a runner that is outside the admin network."""
        return self.github.act("workflow_dispatch", "deploy", network=self.internet.name, inputs=inputs)


@pytest.fixture(scope="module")
def make_world(
    source: Path, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., World]]:
    """`make_world(answers)`: two servers on which a first release was deployed by hand, as the first hour says."""
    with ExitStack() as held:

        def make(**answers: str) -> World:
            internet = held.enter_context(hosts.internet(registry))
            cloud = held.enter_context(hetzner(internet.gateway, TOKEN))
            folder = tmp_path_factory.mktemp("github")
            known = {
                **profiles.REQUIRED,
                "production_domain": "shop.localhost",  # names that need no authority
                "admin_networks": f"{internet.gateway}/32",
                "image_repository": f"{registry.host}/shop",
                **answers,
            }
            project = rendering.render(source, folder / "shop", known)
            pushed = {
                f"{name.upper()}_IMAGE": registry.push(lab_images.app(kind, "1"), f"shop-{name}", "1")
                for name, kind in OWN.items()
            }
            others = {
                name: registry.push(lab_images.ensure(kind), f"shop/{kind.split(':')[0]}", "1")
                for name, kind in (
                    ("POSTGRES_IMAGE", "postgres:18"),
                    ("CADDY_IMAGE", "caddy"),
                    ("RESTIC_IMAGE", "restic:0.18"),
                )
            }
            prepare(project, others)
            repository = Repository.of(project, {**pushed, **others})
            servers = [Vps(internet.host(name, registry=registry), repository, name) for name in ENVIRONMENTS]
            for server in servers:
                server.provision()
                server.deploy(repository.pack())
                cloud.protect(
                    f"harbour-shop-{server.environment}", server.host, web_and_admins(f"{internet.gateway}/32")
                )
            github = GitHub(repository, folder / "shared")
            github.secrets = {
                "SSH_KEY": servers[0].host.pipeline_key.read_text(encoding="utf-8"),
                "HCLOUD_TOKEN": TOKEN,
                "REGISTRY_USERNAME": "pusher",
                "REGISTRY_TOKEN": "token-of-the-registry",
            }
            github.variables = {"DEPLOYS": "on"}
            for server in servers:
                github.variables[f"{server.environment.upper()}_SSH"] = f"deploy@{server.host.address}"
            github.environment = {
                "MY_ADDRESS_URL": cloud.echo,
                "HCLOUD_ENDPOINT": cloud.address,
                "CURL_HOME": curl_home(github, servers),
            }
            return World(github, cloud, internet, *servers)

        yield make


def prepare(project: Path, others: dict[str, str]) -> None:
    """What the pins name is in no registry here, and the stand-ins have no tests of their own."""
    facts = project / "infra/deploy.conf"
    text = facts.read_text(encoding="utf-8")
    for name, reference in others.items():
        text = re.sub(f"(?m)^{name}=.*", f"{name}={reference}", text)
    facts.write_text(text, encoding="utf-8")
    own_test = project / "infra/custom/test"
    own_test.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    own_test.chmod(0o755)


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    """A pipeline that opens the firewall for itself, and reviewers who are asked for production."""
    return make_world(delivery="firewall_rule", approval="environment_reviewers")


def curl_home(github: GitHub, servers: list[Vps]) -> str:
    """Both servers' names and authorities, where runners see them."""
    folder = github.shared / "curl"
    folder.mkdir()
    (folder / "authorities.crt").write_text("".join(each.authority().read_text() for each in servers))
    lines = [line for server in servers for line in server.curl_names()]
    (folder / ".curlrc").write_text("\n".join([*lines, 'cacert = "/shared/curl/authorities.crt"', ""]))
    return "/shared/curl"


def digests(server: Vps) -> dict[str, str]:
    """The images that a server runs."""
    return {name: value for name, value in server.live().items() if name.endswith("_IMAGE")}


def ssh_is_closed(world: World) -> bool:
    """Whether somebody outside the admin network gets no answer from SSH on either server."""
    outsider = world.internet.outsider()
    addresses = [world.staging.host.address, world.production.host.address]
    told = outsider.exec("nmap", "-Pn", "-n", "-p", "22", "-oG", "-", *addresses).stdout
    return told.count("22/filtered/tcp") == len(addresses)


def test_a_push_reaches_staging_and_then_production_with_the_same_digests(world: World) -> None:
    assert ssh_is_closed(world)
    built = world.build("2")
    assert built.status == 0, built.log
    started = world.github.started()
    assert started, built.log
    workflow, inputs = started
    assert (workflow, inputs["action"], inputs["environment"]) == ("deploy", "deploy", "staging")

    before = digests(world.production)
    ran = world.deploy(inputs)
    assert ran.status == 0, ran.log
    assert world.staging.live()["RELEASE"] == inputs["release"]
    assert world.staging.live()["SHA256"] == inputs["sha256"]
    assert digests(world.production) == before
    assert "https://staging.shop.localhost/  200" in ran.log
    # Staging is well: the next run asks production's reviewers.
    started = world.github.started()
    assert started == ("deploy", {"action": "promote", "environment": "production", "by": "somebody"})

    ran = world.deploy(started[1])
    assert ran.status == 0, ran.log
    assert world.production.live() == world.staging.live()
    assert world.github.started() is None
    assert "by somebody" in world.production.remote("status").stdout
    # The firewall was open for the runner alone, and is closed again.
    opened = [
        rule for _, rules in world.cloud.history for rule in rules if (rule["description"] or "").startswith("deploy")
    ]
    assert len(opened) == 3
    sources = {network for rule in opened for network in rule["source_ips"]}
    assert all(source.endswith("/32") for source in sources)
    assert f"{world.internet.gateway}/32" not in sources
    assert ssh_is_closed(world)
    # Tokens are nowhere: not in the log, not on a server.
    for secret in ("token-of-the-job", TOKEN, "token-of-the-registry", "OPENSSH PRIVATE KEY"):
        assert secret not in built.log + ran.log
        for server in (world.staging, world.production):
            found = server.host.console("grep", "-rlF", secret, server.folder, "/home/deploy", "/dev/shm", check=False)
            assert found.strip() == "", found


def test_a_release_that_fails_its_smoke_test_from_outside_is_taken_back(world: World) -> None:
    # Inside all is well; from outside a line is not answered.
    smoke = world.github.repository.path / "infra/custom/smoke.conf"
    before = world.staging.live()
    text = smoke.read_text(encoding="utf-8")
    try:
        built = world.build("3")
        assert built.status == 0, built.log
        started = world.github.started()
        assert started
        smoke.write_text(text + "api /health 200 Perfect\n", encoding="utf-8")
        world.github.repository.commit("Ask for more")
        ran = world.deploy(started[1])
    finally:
        smoke.write_text(text, encoding="utf-8")
        world.github.repository.commit("Ask for less")
    assert ran.status != 0
    assert f"{before['RELEASE']} comes back" in ran.log
    assert world.staging.live() == before
    assert world.github.started() is None, "a release that was taken back asked for production"
    history = world.staging.there("tail -n 2 state/history")
    assert [line.split("\t")[2] for line in history.splitlines()] == ["deploy", "rollback"]
    assert ssh_is_closed(world)


def test_a_release_that_was_changed_on_the_way_is_refused(world: World, tmp_path: Path) -> None:
    staging, production = world.staging.live(), world.production.live()
    name = f"release-{staging['RELEASE']}"
    kept = world.github.artifacts()[name]
    # The same name, another digest of the API, from a pull request: not even looked at.
    forged = tmp_path / "forged"
    forged.mkdir()
    other = world.github.repository.pack(API_IMAGE=world.github.repository.images["API_IMAGE"])
    (forged / "release.tar.gz").write_bytes(other.archive.read_bytes())
    pull_request_artifact(world.github, "999", name, forged)
    assert world.deploy({"action": "promote", "environment": "production"}).status == 0
    assert world.production.live() == production
    # The very artifact, exchanged.
    original = (kept / "release.tar.gz").read_bytes()
    try:
        (kept / "release.tar.gz").write_bytes(other.archive.read_bytes())
        ran = world.deploy({"action": "promote", "environment": "production"})
    finally:
        (kept / "release.tar.gz").write_bytes(original)
    assert ran.status != 0
    assert "holds another release" in ran.log
    # What staging says and what the build has kept differ in one bit of the digest.
    inputs = {"action": "deploy", "environment": "staging", "release": staging["RELEASE"], "sha256": "0" * 64}
    ran = world.deploy(inputs)
    assert ran.status != 0
    assert "is not what was promised" in ran.log
    assert (world.staging.live(), world.production.live()) == (staging, production)


def test_a_person_rolls_back_and_deploys_again_from_githubs_page(world: World) -> None:
    latest = world.production.live()
    ran = world.deploy({"action": "rollback", "environment": "production"})
    assert ran.status == 0, ran.log
    assert world.production.live()["RELEASE"] != latest["RELEASE"]
    ran = world.deploy({"action": "rollback", "environment": "production", "release": latest["RELEASE"]})
    assert ran.status == 0, ran.log
    assert world.production.live() == latest
    ran = world.deploy({"action": "redeploy", "environment": "production"})
    assert ran.status == 0, ran.log
    assert "redeploy" not in world.production.there("tail -n 1 state/history")
    refused = {"action": "deploy", "environment": "production", "release": latest["RELEASE"]}
    ran = world.deploy(refused)
    assert ran.status != 0
    assert "production gets what staging runs" in ran.log
    assert ssh_is_closed(world)


def test_the_monthly_look_at_the_backups_fails_until_there_are_some(world: World) -> None:
    missing = world.github.act("schedule", "backups", network=world.internet.name)
    assert missing.status != 0
    assert "backup.env is missing" in missing.log
    lines = (f"$(date -u +%FT%TZ)\\t{what}\\tok\\t4f2a\\t52428800\\t7.5\\t-\\n" for what in ("backup", "drill"))
    world.production.there(f'install -m 600 /dev/null backup.env && printf "{"".join(lines)}" >state/backups')
    told = world.github.act("schedule", "backups", network=world.internet.name)
    assert told.status == 0, told.log
    assert re.search(r"backup +ok +50\.0 MB", told.log)
    assert ssh_is_closed(world)


def run_order(world: World, *words: str, key: Path) -> subprocess.CompletedProcess[str]:
    """Give staging an order from this machine."""
    home = world.staging.curl_home()
    environment = clean_environment(CURL_HOME=str(home), SSH_KEY_FILE=str(key), ORDER_SECONDS="40")
    folder = world.github.repository.path
    return run("infra/bin/order", "staging", *words, cwd=folder, env=environment, check=False)


def test_a_server_that_fetches_its_releases_is_reached_by_nobody(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    world = make_world(delivery="server_pull")
    assert ssh_is_closed(world)
    built = world.build("2")
    assert built.status == 0, built.log
    started = world.github.started()
    assert started
    ran = world.deploy(started[1])
    assert ran.status == 0, ran.log
    assert world.staging.live()["RELEASE"] == started[1]["release"]
    assert "by somebody" in world.staging.remote("status").stdout

    ran = world.deploy({"action": "promote", "environment": "production"})
    assert ran.status == 0, ran.log
    assert world.production.live() == world.staging.live()
    ran = world.deploy({"action": "rollback", "environment": "production"})
    assert ran.status == 0, ran.log
    assert world.production.live() != world.staging.live()

    before = world.staging.live()
    world.staging.write_env(DEPLOY_HEALTH_SECONDS="20")
    assert world.build("3", api="never-healthy").status == 0
    started = world.github.started()
    assert started
    ran = world.deploy(started[1])
    assert ran.status != 0
    assert "RESULT=failed" in ran.log
    assert f"RELEASE={before['RELEASE']}" in ran.log
    assert world.staging.live() == before
    # Somebody who may push images, and has no key of this environment, orders nothing.
    told = run_order(world, "rollback", key=hosts.new_key(tmp_path / "other"))
    assert told.returncode == 1
    assert "has not told of order" in told.stderr
    assert world.staging.live() == before
    assert "is not signed" in world.staging.host.console("journalctl", "-u", "harbour-shop-pull.service")
    # An order is carried out once, however often the timer looks.
    count = len(world.staging.there("cat state/history").splitlines())
    time.sleep(31)
    assert len(world.staging.there("cat state/history").splitlines()) == count
    assert not [rules for _, rules in world.cloud.history[2:] if rules], "the firewall was touched"
    assert "sshd" not in world.staging.host.console(
        "sh", "-c", f"journalctl -u ssh | grep 'Accepted publickey' | grep -v {world.internet.gateway} || true"
    )
