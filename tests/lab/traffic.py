"""Users of a site while it changes: keep-alive clients that never send a request twice, and count what they see.

Each of the API's requests, GET and POST, carries a name of its own that the API writes down, so that the database tells
afterwards whether one was processed twice. WebSockets stay open as long as the slow requests take. Pages are those
that the front end renders by asking the API, assets those of every page seen so far.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

CLIENTS = 16
THINK = 0.004
SLOW_SECONDS = 10
TIMEOUT = 45


@dataclass(frozen=True)
class Site:
    """Where users find a project: the proxy's address and port, the API's name, and a front end's if there is one."""

    address: str
    port: int
    api: str
    web: str = ""


def trusting() -> ssl.SSLContext:
    """TLS without a look at the certificate: it is not what this is about."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection(http.client.HTTPConnection):
    """A connection over TLS to a site's proxy, opened only when we say so."""

    auto_open = 0

    def __init__(self, site: Site, host: str) -> None:
        """Remember where to; certificates are not what this is about."""
        super().__init__(host, site.port, timeout=TIMEOUT)
        self._address = site.address
        self._tls = trusting()

    def connect(self) -> None:
        """Connect, with the site's name for the proxy."""
        plain = socket.create_connection((self._address, self.port), timeout=TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


@dataclass
class Seen:
    """What the clients saw."""

    requests: int = 0
    connections: int = 0
    longest: float = 0.0
    longest_was: str = ""
    slow_completed: int = 0
    conversations: int = 0
    failed: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    assets: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def summary(self) -> str:
        """Figures for a table."""
        return (
            f"{len(self.failed)} of {self.requests} requests failed, longest {self.longest:.2f} s; "
            f"all the way through: {self.slow_completed} requests and {self.conversations} WebSockets "
            f"of {SLOW_SECONDS} s"
        )

    def report(self) -> str:
        """One line for whoever looks for a reason."""
        return (
            f"{self.summary()}; {self.connections} connections, longest was {self.longest_was}, "
            f"versions {sorted(self.versions)}; {self.failed[:5]}"
        )


class Client:
    """One user, with one connection at a time."""

    def __init__(self, seen: Seen, site: Site, host: str) -> None:
        """Connect later."""
        self.seen, self.host = seen, host
        self.connection = Connection(site, host)
        self.reused = False

    def ask(self, method: str, path: str, body: str | None = None, *, counts: bool = True) -> str | None:
        """Send one request; None when it failed. A connection that an answer announced as closed is opened anew."""
        began = time.monotonic()
        try:
            if self.connection.sock is None:
                self.connection.connect()
                self.reused = False
                with self.seen.lock:
                    self.seen.connections += 1
            self.connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            text = answer.read().decode()
            problem = f"{answer.status} {text[:200]}" if answer.status >= http.client.BAD_REQUEST else ""
            self.reused = True
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            closed = isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))
            text, problem = "", f"{error!r}" + (" closed while idle" if closed and self.reused else "")
        taken = time.monotonic() - began
        with self.seen.lock:
            self.seen.requests += 1
            if counts and taken > self.seen.longest:
                when = time.strftime("%X", time.gmtime())
                self.seen.longest, self.seen.longest_was = taken, f"{when} {method} {self.host}{path.partition('?')[0]}"
            if problem:
                self.seen.failed.append(
                    f"{time.strftime('%X', time.gmtime())} {method} {self.host}{path} after {taken:.2f} s: {problem}"
                )
        return None if problem else text


def converse(site: Site) -> str:
    """One WebSocket: every message must come back. What went wrong, or nothing."""
    try:
        return asyncio.run(_conversation(site))
    except (OSError, WebSocketException) as error:
        return repr(error)


async def _conversation(site: Site) -> str:
    # Not the client for threads: its reader and writer share one TLS object, and one handshake in a hundred hung.
    plain = socket.create_connection((site.address, site.port), timeout=TIMEOUT)
    plain.setblocking(False)
    async with connect(f"wss://{site.api}/ws", sock=plain, ssl=trusting(), proxy=None) as talk:
        until = time.monotonic() + SLOW_SECONDS
        for number in itertools.count():
            await talk.send(str(number))
            if await asyncio.wait_for(talk.recv(), TIMEOUT) != str(number):
                return f"message {number} came back as another one"
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.05)
    return ""


@contextmanager
def traffic(site: Site, clients: int = CLIENTS, *, slow: bool = True) -> Iterator[Seen]:
    """Send requests for as long as the block lasts; requests in flight at its end are waited for."""
    seen, stop = Seen(), threading.Event()
    numbers = itertools.count()
    run = f"{time.time():.3f}"

    def api(client: Client) -> None:
        name = f"{run}-{next(numbers)}"
        if text := client.ask("GET", f"/visit?name={name}"):
            with seen.lock:
                seen.versions.add(json.loads(text)["version"])
                seen.acknowledged.add(name)
        name = f"{run}-{next(numbers)}"
        if client.ask("POST", "/items", json.dumps({"name": name})):
            with seen.lock:
                seen.acknowledged.add(name)

    def page(client: Client) -> None:
        if text := client.ask("GET", "/"):
            with seen.lock:
                seen.assets.update(re.findall(r'src="([^"]+)"', text))

    def asset(client: Client) -> None:
        with seen.lock:
            paths = sorted(seen.assets)
        for path in paths or ["/api/health"]:
            client.ask("GET", path)

    def patient(client: Client) -> None:
        if client.ask("GET", f"/slow?seconds={SLOW_SECONDS}", counts=False):
            with seen.lock:
                seen.slow_completed += 1

    def talk() -> None:
        while not stop.is_set():
            problem = converse(site)
            with seen.lock:
                seen.conversations += not problem
                if problem:
                    seen.failed.append(f"{time.strftime('%X', time.gmtime())} WebSocket: {problem}")

    def visit(host: str, once: Callable[[Client], None]) -> None:
        client = Client(seen, site, host)
        while not stop.is_set():
            once(client)
            time.sleep(THINK)
        client.connection.close()

    kinds = [(site.api, api)] * (clients // 2)
    if site.web:
        kinds += [(site.web, page)] * (clients // 4) + [(site.web, asset)] * (clients // 4)
    if slow:
        kinds.append((site.api, patient))
    threads = [threading.Thread(target=visit, args=kind, daemon=True) for kind in kinds]
    if slow:
        threads.append(threading.Thread(target=talk, daemon=True))
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield seen
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=TIMEOUT)
        print(seen.report())
