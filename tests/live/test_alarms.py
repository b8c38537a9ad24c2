"""infra/bin/server-alarms on a real server: what is wrong is really wrong, and messages go to a real receiver."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import rendering
from tests.lab import hosts, images
from tests.lab.shell import run

pytestmark = pytest.mark.live

APP, PROJECT = "harbour-shop", "harbour_legacy"
CONFIG = f"/etc/{APP}-alarms.conf"
SECRET = "T0PSECRET"


@dataclass
class Receiver:
    """Somebody who takes messages by POST, or does not."""

    url: str = ""
    status: int = 204
    messages: list[dict[str, Any]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    hold: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> list[dict[str, Any]]:
        """The messages since the last time."""
        seen, self.messages = self.messages, []
        return seen


@pytest.fixture(scope="module")
def host(engine: None) -> Iterator[hosts.Host]:  # noqa: ARG001
    """A server with the script and its units, and an engine with a small image."""
    with hosts.internet() as net:
        made = net.host("watched")
        for name, mode in (("bin/server-alarms", "0755"), ("server/alarms.conf", "0600")):
            text = (rendering.ROOT / "template/infra" / name).read_text(encoding="utf-8")
            made.write("/usr/local/sbin/server-alarms" if "bin" in name else CONFIG, text, mode=mode)
        save = subprocess.Popen(["docker", "save", images.ensure("alpine:1")], stdout=subprocess.PIPE)
        subprocess.run(["docker", "exec", "-i", made.container.id, "docker", "load"], stdin=save.stdout, check=True)
        assert save.wait() == 0
        yield made


@pytest.fixture(scope="module")
def receiver(host: hosts.Host) -> Iterator[Receiver]:
    """A server of HTTP on this machine, which the host reaches."""
    told = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.arrived.set()
            if told.hold:
                told.hold.wait(20)
            if told.status < 300:
                told.messages.append(json.loads(body))
                told.kinds.append(self.headers["Content-Type"])
            self.send_response(told.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    gateway = host.address.rpartition(".")[0] + ".1"
    with http.server.ThreadingHTTPServer((gateway, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.url = f'http://{gateway}:{server.server_address[1]}/hook/{SECRET}?a="b"\\c'
        yield told
        server.shutdown()


@pytest.fixture(autouse=True)
def settled(host: hosts.Host, receiver: Receiver) -> None:
    """Nothing is known, nothing waits, the webhook is configured and works."""
    host.console("sh", "-c", "rm -rf /var/lib/server-alarms; systemctl reset-failed")
    configure(host, ALARM_WEBHOOK_URL=receiver.url)
    receiver.status, receiver.hold = 204, None
    look(host)
    receiver.taken()


def configure(host: hosts.Host, mode: str = "0600", **settings: str) -> None:
    host.write(CONFIG, "".join(f"{name}={value}\n" for name, value in settings.items()), mode=mode)


def look(host: hosts.Host, *options: str, check: bool = True) -> str:
    """Run it as its timer does."""
    return host.console("server-alarms", "--app", APP, "--project", PROJECT, *options, check=check)


def told(receiver: Receiver) -> tuple[list[str], list[str]]:
    """What the one message since the last time says: what is new, and what is over."""
    (message,) = receiver.taken()
    assert message["host"] == "watched"
    assert all(each["text"] in message["text"] for each in message["new"] + message["over"])
    return [each["text"] for each in message["new"]], [each["text"] for each in message["over"]]


def begins_and_ends(host: hosts.Host, receiver: Receiver, begin: str, end: str, expected: str) -> None:
    """Told once when it begins and once when it is over, whatever number of times it is looked at."""
    try:
        host.console("sh", "-ec", begin)
        look(host)
        new, over = told(receiver)
        assert expected in new[0]
        assert (len(new), over) == (1, [])
        for _ in range(2):
            look(host)
        assert receiver.taken() == []
    finally:
        host.console("sh", "-ec", end)
    look(host)
    assert told(receiver) == ([], new)
    look(host)
    assert receiver.taken() == []


FULL = "mkdir -p /mnt/full && mount -t tmpfs -o {} tmpfs /mnt/full"


def test_a_disk_that_fills(host: hosts.Host, receiver: Receiver) -> None:
    fill = FULL.format("size=1m") + " && head -c 950000 /dev/zero > /mnt/full/data"
    begins_and_ends(host, receiver, fill, "umount /mnt/full", "/mnt/full: 91% of the disk in use")


def test_a_disk_without_inodes(host: hosts.Host, receiver: Receiver) -> None:
    fill = FULL.format("nr_inodes=100") + " && cd /mnt/full && seq 95 | xargs touch"
    begins_and_ends(host, receiver, fill, "umount /mnt/full", "/mnt/full: 96% of the inodes in use")


def test_a_disk_around_the_limit_is_told_once(host: hosts.Host, receiver: Receiver) -> None:
    host.console("sh", "-ec", FULL.format("size=1000k"))
    try:
        for size, messages in ((860, 1), (840, 0), (860, 0), (800, 1)):
            host.console("sh", "-c", f"head -c {size}k /dev/zero > /mnt/full/data")
            look(host)
            assert len(receiver.taken()) == messages, size
    finally:
        host.console("umount", "/mnt/full")


def test_memory_that_runs_out(host: hosts.Host, receiver: Receiver) -> None:
    configure(host, ALARM_WEBHOOK_URL=receiver.url, MEMORY_PERCENT="100")
    look(host)
    new, _ = told(receiver)
    assert new[0].startswith("memory: only ")
    configure(host, ALARM_WEBHOOK_URL=receiver.url)
    look(host)
    assert len(told(receiver)[1]) == 1


def test_a_unit_that_failed(host: hosts.Host, receiver: Receiver) -> None:
    begin = "systemd-run --quiet --unit=broken --property=Type=oneshot false || true"
    begins_and_ends(host, receiver, begin, "systemctl reset-failed", "unit broken.service has failed")


def test_a_reboot_that_is_due(host: hosts.Host, receiver: Receiver) -> None:
    host.console("touch", "--date", "6 days ago", "/run/reboot-required")
    look(host)
    assert receiver.taken() == []
    begin, end = "touch --date '8 days ago' /run/reboot-required", "rm /run/reboot-required"
    begins_and_ends(host, receiver, begin, end, "a reboot has been due for more than 7 days")


@pytest.fixture
def backups(host: hosts.Host) -> Iterator[str]:
    """Backups that were set up long ago; where the scripts write down what they did."""
    host.console("sh", "-ec", f"mkdir -p /opt/{APP}/state && touch --date '100 days ago' /opt/{APP}/backup.env")
    yield f"/opt/{APP}/state/backups"
    host.console("rm", "-rf", f"/opt/{APP}/state", f"/opt/{APP}/backup.env")


def line(what: str, result: str, age: str) -> str:
    """A line of shell that prints what a backup script writes down."""
    return f"printf '%s\\t{what}\\t{result}\\tid\\t1\\t2.0\\ttext\\n' \"$(date -u -d '{age} ago' +%FT%TZ)\""


def test_a_backup_or_a_rehearsal_that_is_too_old(host: hosts.Host, receiver: Receiver, backups: str) -> None:
    good = f"{{ {line('drill', 'ok', '91 days')}; {line('backup', 'ok', '25 hours')}; }} > {backups}"
    host.console("sh", "-ec", good)
    look(host)
    assert receiver.taken() == []
    # What failed since does not count, and neither does a rehearsal as a backup.
    late = (line("backup", "ok", "27 hours"), line("backup", "failed", "1 hour"), line("drill", "ok", "91 days"))
    begin = f"{{ {'; '.join(late)}; }} > {backups}"
    begins_and_ends(host, receiver, begin, good, "no backup was made and read back in time: the last one is of 20")
    begin = f"{{ {line('backup', 'ok', '1 hour')}; {line('drill', 'ok', '93 days')}; }} > {backups}"
    begins_and_ends(host, receiver, begin, good, "within a quarter: the last one is of 20")
    begin = f"{line('backup', 'ok', '1 hour')} > {backups}"
    begins_and_ends(host, receiver, begin, good, "no restore was rehearsed within a quarter: there is none")
    begin = f"echo 'BACKUP_MAX_AGE_HOURS=20' > /opt/{APP}/backup.env"
    begins_and_ends(host, receiver, begin, f": > /opt/{APP}/backup.env", "no backup was made and read back in time")


def test_a_project_whose_backups_are_just_set_up_or_never_were(
    host: hosts.Host, receiver: Receiver, backups: str
) -> None:
    host.console("sh", "-ec", f"rm -f {backups}; touch /opt/{APP}/backup.env")
    look(host)
    host.console("sh", "-ec", f"{line('backup', 'ok', '90 hours')} > {backups}; rm /opt/{APP}/backup.env")
    look(host)
    assert receiver.taken() == []


def test_the_timers_of_backups_wait_until_there_is_something_to_do(host: hosts.Host, rendered_unit: Path) -> None:
    folder = f"/opt/{APP}"
    units = [f"{name}.{kind}" for name in ("backup", "restore-drill") for kind in ("service", "timer")]
    for unit in units:
        host.write(f"/etc/systemd/system/{APP}-{unit}", (rendered_unit / unit).read_text(encoding="utf-8"))
    program = f"#!/bin/sh\n{{ curl -s --unix-socket /run/docker.sock http://d/version; id -un; }} > {folder}/state/ran"
    try:
        host.console(
            "sh", "-ec", f"systemctl daemon-reload; id deploy || useradd -m -G docker deploy; mkdir -p {folder}/state"
        )
        host.console("systemctl", "start", f"{APP}-backup.timer", f"{APP}-restore-drill.timer")
        listed = host.console("systemctl", "list-timers", "--no-pager", f"{APP}-*")
        assert re.search(rf"02:17:00 UTC .*{APP}-backup\.service", listed), listed
        assert re.search(rf"Sun .* 05:17:00 UTC .*{APP}-restore-drill\.service", listed), listed
        for name in ("backup", "restore-drill"):
            host.write(f"{folder}/current/infra/bin/{name}", program, mode="0755")
        host.console("systemd-analyze", "verify", *(f"/etc/systemd/system/{APP}-{unit}" for unit in units))
        host.console("chown", "deploy:", f"{folder}/state")
        host.console("systemctl", "start", f"{APP}-backup")
        host.console("test", "!", "-e", f"{folder}/state/ran")  # nothing says yet where backups go
        host.console("touch", f"{folder}/backup.env")
        for name in ("backup", "restore-drill"):
            host.console("systemctl", "start", f"{APP}-{name}")
            ran = host.console("cat", f"{folder}/state/ran")
            assert "ApiVersion" in ran, "the engine was out of reach"
            assert ran.split()[-1] == "deploy"
            host.console("rm", f"{folder}/state/ran")
    finally:
        host.console("systemctl", "stop", f"{APP}-backup.timer", f"{APP}-restore-drill.timer", check=False)
        host.console("rm", "-rf", f"{folder}/state", f"{folder}/current", f"{folder}/backup.env")
        for unit in units:
            host.console("rm", "-f", f"/etc/systemd/system/{APP}-{unit}")
        host.console("systemctl", "daemon-reload")


SERVE = (
    "mkdir -p /opt/{app} /root/tls && cd /root/tls && echo API_HOSTNAME=api.example.com > /opt/{app}/.env && "
    "echo 'WEB_HOSTNAME=\"example.com\"' >> /opt/{app}/.env && "
    "faketime '{begin}' openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out crt -days {days} -subj /CN=x && "
    "systemd-run --quiet --unit=tls openssl s_server -accept 443 -key /root/tls/key -cert /root/tls/crt -quiet && "
    "until ss -Hltn | grep -q :443; do sleep 0.1; done"
)
UNSERVE = f"systemctl stop tls; rm -rf /opt/{APP} /root/tls"


@pytest.mark.parametrize(("begin", "days", "expected"), [("-80 days", 90, 2), ("-70 days", 90, 0), ("-1 hour", 6, 0)])
def test_a_certificate_that_is_about_to_expire(
    host: hosts.Host, receiver: Receiver, begin: str, days: int, expected: int
) -> None:
    try:
        host.console("sh", "-ec", SERVE.format(app=APP, begin=begin, days=days))
        look(host)
        messages = receiver.taken()
        new = [each["text"] for message in messages for each in message["new"]]
        assert len(new) == expected, new
        assert all("expires at" in text for text in new)
        if expected:
            assert {text.split()[3] for text in new} == {"api.example.com", "example.com"}
    finally:
        host.console("sh", "-c", UNSERVE)


CONTAINER = "docker run -d --name {} --label com.docker.compose.project={} --label com.docker.compose.service={} {} {}"


def container(name: str, options: str, command: str, project: str = PROJECT) -> str:
    """A line that starts a container as Compose would label it."""
    return CONTAINER.format(name, project, name, options, f"{images.recipe('alpine:1').reference} {command}")


def test_a_container_that_is_unhealthy(host: hosts.Host, receiver: Receiver) -> None:
    health = "--health-cmd false --health-interval 1s --health-retries 1"
    begin = container("api", health, "sleep 600") + " && " + container("other", health, "sleep 600", "another")
    wait = " && until [ $(docker ps -q --filter health=unhealthy | wc -l) = 2 ]; do sleep 0.3; done"
    end = "docker rm -f api other"
    begins_and_ends(host, receiver, begin + wait, end, "container api is unhealthy")


def test_a_container_that_keeps_restarting(host: hosts.Host, receiver: Receiver) -> None:
    counted = "until [ $(docker inspect --format '{{.RestartCount}}' worker) -ge %s ]; do sleep 0.2; done"
    try:
        host.console("sh", "-ec", container("worker", "--restart always", "sh -c 'sleep 0.4; exit 1'"))
        host.console("sh", "-ec", counted % 1)
        look(host)
        receiver.taken()
        host.console("sh", "-ec", counted % "$(($(cut -f 2 /var/lib/server-alarms/restarts) + 2))")
        look(host)
        host.console("docker", "rm", "-f", "worker")
        look(host)
        seen = [each["text"] for message in receiver.taken() for each in message["over"]]
        assert len(seen) == 1
        assert seen[0].startswith("container worker keeps restarting")
    finally:
        host.console("docker", "rm", "-f", "worker", check=False)


def test_a_message_that_fails_is_sent_later_and_nothing_is_lost(host: hosts.Host, receiver: Receiver) -> None:
    receiver.status = 500
    host.console("touch", "--date", "8 days ago", "/run/reboot-required")
    try:
        look(host)
        host.console("sh", "-c", "systemd-run --quiet --unit=broken --property=Type=oneshot false || true")
        look(host)
    finally:
        host.console("sh", "-c", "rm /run/reboot-required; systemctl reset-failed")
    look(host)
    assert receiver.taken() == []
    receiver.status = 204
    look(host)
    new, over = told(receiver)
    assert new == ["a reboot has been due for more than 7 days", "unit broken.service has failed"]
    assert sorted(over) == new
    look(host)
    assert receiver.taken() == []


def test_a_server_that_cannot_write_its_state_tells_all_the_same(host: hosts.Host, receiver: Receiver) -> None:
    place = "/var/lib/server-alarms"
    fill = f"mount -t tmpfs -o size=16k tmpfs {place} && head -c 1m /dev/zero > {place}/filler || true"
    host.console("sh", "-c", fill)
    try:
        look(host)
        new, _ = told(receiver)
        assert f"{place}: 100% of the disk in use" in new
    finally:
        host.console("umount", place)


def test_the_webhook_is_in_no_list_of_processes(host: hosts.Host, receiver: Receiver) -> None:
    receiver.hold = threading.Event()
    receiver.arrived.clear()
    sending = threading.Thread(target=look, args=(host, "--test"))
    sending.start()
    assert receiver.arrived.wait(20)
    processes = host.console("sh", "-c", "ps axeww; cat /proc/[0-9]*/environ | tr '\\0' '\\n'", check=False)
    receiver.hold.set()
    sending.join()
    assert "curl" in processes
    assert SECRET not in processes
    (message,) = receiver.taken()
    assert message["text"].startswith("TEST watched: ")
    assert receiver.kinds[-1] == "application/json"


def test_text_with_every_kind_of_character_is_valid_json(host: hosts.Host, receiver: Receiver) -> None:
    folder = '/mnt/a "b"\\c\u00e9\t' + "\x01"
    host.console("mkdir", "-p", folder)
    host.console("mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder)
    try:
        host.console("sh", "-c", 'head -c 99k /dev/zero > "$1/data"', "sh", folder)
        look(host)
        new, _ = told(receiver)
        assert new[0].startswith('/mnt/a "b"\\c')
    finally:
        host.console("umount", folder)


SENDMAIL = """#!/bin/sh
{ echo "$*"; cat; } > /root/mail
"""


def test_mail_is_handed_to_sendmail(host: hosts.Host, receiver: Receiver) -> None:
    configure(host, ALARM_MAIL="ops@example.com", ALARM_WEBHOOK_URL=receiver.url)
    receiver.status = 500
    host.console("touch", "--date", "8 days ago", "/run/reboot-required")
    try:
        look(host)  # there is no sendmail yet
        host.write("/usr/local/sbin/sendmail", SENDMAIL, mode="0755")
        look(host)  # the webhook that fails does not hold it up
        mail = host.console("cat", "/root/mail")
        host.console("rm", "/root/mail")
        look(host)
        assert host.console("sh", "-c", "ls /root/mail || true").strip() == ""
    finally:
        host.console("rm", "-f", "/run/reboot-required", "/usr/local/sbin/sendmail", "/root/mail")
    assert mail.splitlines()[:3] == [
        "-i -t",
        "To: ops@example.com",
        "Subject: [watched] a reboot has been due for more than 7 days",
    ]
    assert mail.count("ALARM watched: a reboot has been due") == 1
    receiver.status = 204
    look(host)
    assert "a reboot" in told(receiver)[0][0]


def test_nothing_configured_goes_to_the_journal(host: hosts.Host, receiver: Receiver) -> None:
    configure(host)
    host.console("touch", "--date", "8 days ago", "/run/reboot-required")
    try:
        assert "ALARM watched: a reboot has been due" in look(host)
        assert "nothing to test" in look(host, "--test", check=False)
    finally:
        host.console("rm", "/run/reboot-required")
    assert receiver.taken() == []


def test_a_dry_run_changes_and_sends_nothing(host: hosts.Host, receiver: Receiver) -> None:
    before = host.console("sh", "-c", "cd /var/lib/server-alarms && sha256sum *")
    host.console("touch", "--date", "8 days ago", "/run/reboot-required")
    try:
        shown = look(host, "--dry-run")
    finally:
        host.console("rm", "/run/reboot-required")
    assert "Found now: 1" in shown
    assert "Would be told: 1, by: webhook" in shown
    assert host.console("sh", "-c", "cd /var/lib/server-alarms && sha256sum *") == before
    assert receiver.taken() == []


def test_a_test_message_that_does_not_arrive_is_an_error(host: hosts.Host, receiver: Receiver) -> None:
    receiver.status = 500
    command = ("docker", "exec", host.container.id, "server-alarms", "--app", APP, "--test")
    failed = run(*command, check=False)
    assert failed.returncode == 1
    assert "FAILED by webhook" in failed.stdout
    receiver.status = 204
    assert run(*command).stdout == "sent by webhook\n"


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"DISK_PERCENT": "much"}, (), "DISK_PERCENT=much is no whole number"),
        ({}, ("--nonsense",), "unknown option --nonsense"),
        ({}, ("--app", "../x"), "which app?"),
    ],
)
def test_what_makes_no_sense_is_refused(
    host: hosts.Host, settings: dict[str, str], options: tuple[str, ...], message: str
) -> None:
    configure(host, **settings)
    assert message in look(host, *options, check=False)


def test_a_configuration_that_others_can_read_is_named(host: hosts.Host, receiver: Receiver) -> None:
    configure(host, mode="0644", ALARM_WEBHOOK_URL=receiver.url)
    assert "chmod 600" in look(host, "--dry-run", check=False)


def test_the_timer_runs_it(host: hosts.Host, receiver: Receiver, rendered_unit: Path) -> None:
    for unit in ("server-alarms.service", "server-alarms.timer"):
        text = (rendered_unit / unit).read_text(encoding="utf-8")
        host.write(f"/etc/systemd/system/{unit}", text.replace("OnBootSec=3min", "OnActiveSec=1s"))
    host.console("touch", "--date", "8 days ago", "/run/reboot-required")
    try:
        host.console("sh", "-c", "systemctl daemon-reload && systemctl start server-alarms.timer")
        until = time.monotonic() + 60
        while not receiver.messages:
            assert time.monotonic() < until, host.console("systemctl", "status", "server-alarms", check=False)
            time.sleep(0.2)
        host.console("systemctl", "stop", "server-alarms.timer")
    finally:
        host.console("rm", "/run/reboot-required")
    assert "a reboot has been due" in told(receiver)[0][0]
    assert host.console("stat", "--format", "%a", "/var/lib/server-alarms").strip() == "700"
    assert host.console("systemctl", "is-failed", "server-alarms.service", check=False).strip() != "failed"


@pytest.fixture
def rendered_unit(rendered: Any) -> Path:  # noqa: ANN401
    """The units of a rendered project."""
    return Path(rendered("default")) / "infra/server"
