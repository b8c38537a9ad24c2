"""What a client sees while one slot takes over from the other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.proxy.programs import NOTICED
from tests.proxy.slot import wait_until

if TYPE_CHECKING:
    from types import TracebackType

    from tests.proxy.programs import Proxy

API = "api.shop.test"


@dataclass
class Load:
    """Keep-alive clients that send GET and POST requests by turns until the block ends."""

    proxy: Proxy
    clients: int = 8
    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0

    def __enter__(self) -> Load:
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        count = 0
        with self.proxy.client() as client:
            while not self._done.is_set():
                count += 1
                method = ("GET", "POST")[count % 2]
                target = f"/echo?request={number}-{count}"
                start = time.monotonic()
                try:
                    answer = client.request(
                        method,
                        f"https://127.0.0.1:{self.proxy.https}{target}",
                        headers={"Host": API},
                        content=b"body" if method == "POST" else None,
                        extensions={"sni_hostname": API},
                    )
                    outcome = str(answer.status_code)
                except httpx.TransportError as problem:
                    outcome = repr(problem)
                self.longest = max(self.longest, time.monotonic() - start)
                self.sent.append(f"{method} {target}")
                if outcome != "200":
                    self.failed.append(f"{method} {target}: {outcome}")
                time.sleep(0.005)

    def report(self, what: str) -> str:
        """Put the figures into words."""
        return (
            f"{self.proxy.program}: {what}: {len(self.failed)} of {len(self.sent)} requests failed, "
            f"longest {self.longest:.2f} s"
        )


def processed(proxy: Proxy) -> list[str]:
    """List the POST requests that any slot has got."""
    return [request for slot in proxy.slots.values() for request in slot.requests if request.startswith("POST")]


@pytest.mark.parametrize(("old", "new"), [("api-blue", "api-green"), ("api-green", "api-blue")])
def test_no_request_fails_when_the_other_slot_takes_over(proxy: Proxy, old: str, new: str) -> None:
    proxy.start_slots(old, "web-blue")
    wait_until(lambda: proxy.get(API, "/echo").json()["slot"] == old)
    for slot in proxy.slots.values():
        slot.forget()
    with Load(proxy) as load:
        time.sleep(0.3)
        proxy.slots[new].start()
        time.sleep(NOTICED[proxy.program])
        proxy.slots[old].stop()
        time.sleep(1)
    print(load.report(f"{old} to {new}"))
    assert len(load.sent) > 300
    if proxy.program == "caddy":
        assert not load.failed
    else:
        # nginx gives up a request that it is sending again while the name server's answer changes.
        assert len(load.failed) <= load.clients
        assert all(line.endswith(": 502") for line in load.failed)
    assert load.longest < 2
    answered = [request for request in load.sent if not any(line.startswith(f"{request}:") for line in load.failed)]
    assert sorted(processed(proxy)) == sorted(request for request in answered if request.startswith("POST"))
    # The test's own questions come last: they would count as processed.
    assert proxy.get(API, "/echo").json()["slot"] == new
    internal = httpx.get(f"http://127.0.0.1:{proxy.internal}/echo", trust_env=False)
    assert internal.json()["slot"] == new, "the internal listener follows too"


def test_two_slots_never_share_the_traffic(proxy: Proxy) -> None:
    proxy.start_slots("api-blue", "api-green", "web-blue")
    assert {proxy.get(API, "/echo").json()["slot"] for _ in range(20)} == {"api-blue"}


def test_a_file_beside_the_configuration_puts_green_first_from_the_next_request_on(proxy: Proxy) -> None:
    proxy.start_slots("api-blue", "api-green", "web-blue")
    wait_until(lambda: proxy.get(API, "/echo").json()["slot"] == "api-blue")
    time.sleep(NOTICED[proxy.program])
    marker = proxy.folder / "slot.green"
    marker.touch()
    try:
        assert {proxy.get(API, "/echo").json()["slot"] for _ in range(20)} == {"api-green"}
        internal = httpx.get(f"http://127.0.0.1:{proxy.internal}/echo", trust_env=False)
        assert internal.json()["slot"] == "api-green"
        assert proxy.get("shop.test", "/echo").json()["slot"] == "web-blue", "the only slot that runs"
    finally:
        marker.unlink()
    assert {proxy.get(API, "/echo").json()["slot"] for _ in range(20)} == {"api-blue"}


def test_an_unhealthy_slot_gets_no_traffic(proxy: Proxy) -> None:
    """Caddy checks the health of each slot. nginx cannot: there the slot that listens keeps the traffic."""
    proxy.start_slots("api-blue", "api-green", "web-blue")
    proxy.slots["api-blue"].set_healthy(False)
    time.sleep(0.8)
    expected = {"caddy": "api-green", "nginx": "api-blue"}[proxy.program]
    assert {proxy.get(API, "/echo").json()["slot"] for _ in range(20)} == {expected}


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"body"), ("POST", b"")])
def test_a_request_that_breaks_a_slot_is_not_sent_again(proxy: Proxy, method: str, body: bytes | None) -> None:
    """With nginx, the other slot may get a GET too: it cannot tell a broken answer from a slot that is not there."""
    proxy.start_slots("api-blue", "api-green", "web-blue")
    before = sum(slot.requests.count(f"{method} /crash") for slot in proxy.slots.values())
    start = time.monotonic()
    assert proxy.request(method, API, "/crash", content=body).status_code == 502
    assert time.monotonic() - start < 1
    sent = sum(slot.requests.count(f"{method} /crash") for slot in proxy.slots.values()) - before
    assert sent == (2 if (proxy.program, method) == ("nginx", "GET") else 1)


def test_requests_in_flight_are_finished_by_the_slot_that_stops(proxy: Proxy) -> None:
    proxy.start_slots("api-blue", "api-green", "web-blue")
    answers: list[httpx.Response] = []
    with proxy.client() as client:

        def send() -> None:
            answers.append(
                client.post(
                    f"https://127.0.0.1:{proxy.https}/echo?seconds=1",
                    headers={"Host": API},
                    content=b"body",
                    extensions={"sni_hostname": API},
                )
            )

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: "POST /echo?seconds=1" in proxy.slots["api-blue"].requests)
        proxy.slots["api-blue"].stop()
        thread.join()
    assert [answer.json()["slot"] for answer in answers] == ["api-blue"]
    assert proxy.get(API, "/echo").json()["slot"] == "api-green"


def test_a_slot_that_is_replaced_in_place(proxy: Proxy) -> None:
    """`docker compose up -d` without a change of slots: stop, then start. Caddy lets requests wait, nginx cannot."""
    proxy.start_slots("api-blue", "web-blue")
    with Load(proxy) as load:
        time.sleep(0.3)
        proxy.slots["api-blue"].stop()
        time.sleep(1.5)
        proxy.slots["api-blue"].start()
        time.sleep(NOTICED[proxy.program])
    print(load.report("replaced in place, 1.5 s"))
    if proxy.program == "caddy":
        assert not load.failed
        assert 1.4 < load.longest < 5
    else:
        assert all(line.endswith((": 502", ": 504")) for line in load.failed)
    assert proxy.get(API, "/echo").status_code == 200
