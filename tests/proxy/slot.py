"""A small HTTP server that stands for one slot of a service: it answers, drains and stops as Kestrel and Next.js do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import json
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

OWN_HEADERS = {
    "Content-Security-Policy": "default-src 'none'",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=60",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What /own-headers sends: an application that knows better than the proxy's defaults."""

SERVER_HEADERS = {"Server": "Kestrel", "X-Powered-By": "Next.js"}

STREAM_PAUSE = 0.8
"""Seconds between the two lines of /stream and /events."""

WEBSOCKET_KEY_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Server:
    """Serves as one slot, in a process of its own; what it is told to do comes as lines on its standard input."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.healthy = True
        self.requests: list[str] = []
        self.bodies: list[int] = []
        self._listener: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.StreamWriter] = set()

    async def obey(self) -> None:
        """Read one order after the other until there is no more, and answer each with what happened so far."""
        loop = asyncio.get_running_loop()
        orders = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while order := (await orders.readline()).decode().strip():
            match order:
                case "start":
                    self._start()
                case "stop":
                    await self._stop()
                case "healthy" | "unhealthy":
                    self.healthy = order == "healthy"
                case "forget":
                    self.requests.clear()
                    self.bodies.clear()
            print(json.dumps({"requests": self.requests, "bodies": self.bodies}), flush=True)

    def _start(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def _stop(self) -> None:
        """Stop as Kestrel and Node do: accept nothing more, close idle connections, let requests in flight finish."""
        if self._listener is None:
            return
        asyncio.get_running_loop().remove_reader(self._listener)
        self._accept(self._listener)
        self._listener.close()
        self._listener = None
        for writer in list(self._idle):
            # A request that has arrived is no longer idle.
            arrived = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.FIONREAD, b"\0" * 4)
            if not any(arrived):
                writer.close()
        while self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, listener: socket.socket) -> None:
        """Take every connection that waits: nothing is lost when the listener is closed right afterwards."""
        with contextlib.suppress(BlockingIOError):
            while True:
                task = asyncio.create_task(self._connection(listener.accept()[0]))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)

    async def _connection(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            # As in Node, a new connection is not idle: the request that it was opened for is on its way.
            await self._request((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"), reader, writer)
            while self._listener is not None:
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                await self._request(head.decode("latin-1"), reader, writer)
        self._idle.discard(writer)
        writer.close()

    async def _request(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request_line, *lines = head.rstrip().split("\r\n")
        method, target, _ = request_line.split(" ")
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        url = urlsplit(target)
        if url.path in {"/health", "/api/health"}:
            await self._answer(writer, 200 if self.healthy else 503, b"health of " + self.name.encode())
            return
        self.requests.append(f"{method} {target}")
        body = await _body(headers, reader)
        self.bodies.append(len(body))
        seconds = float(parse_qs(url.query).get("seconds", ["0"])[0])
        await asyncio.sleep(seconds)
        match url.path:
            case "/echo":
                answer = {
                    "slot": self.name,
                    "method": method,
                    "target": target,
                    "headers": headers,
                    "length": len(body),
                }
                await self._answer(writer, 200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
            case "/own-headers":
                await self._answer(writer, 200, b"own", OWN_HEADERS)
            case "/text":
                await self._answer(writer, 200, b"compressible " * 1000, {"Content-Type": "text/plain"})
            case "/picture":
                await self._answer(writer, 200, b"compressible " * 1000, {"Content-Type": "image/png"})
            case "/_next/static/app.js":
                own = {"Content-Type": "text/javascript", "Cache-Control": "public, max-age=0"}
                await self._answer(writer, 200, b"app()", own)
            case "/_next/static/missing.js":
                await self._answer(writer, 404, b"none", {"Cache-Control": "public, max-age=31536000, immutable"})
            case "/page":
                await self._answer(writer, 200, b"page", {"Cache-Control": "private, no-cache"})
            case "/stream" | "/events":
                await self._stream(writer, "text/event-stream" if url.path == "/events" else "text/plain")
            case "/crash":
                writer.transport.abort()
            case "/websocket":
                await _websocket(headers["sec-websocket-key"], reader, writer)
            case _:
                await self._answer(writer, 404, b"nothing here")

    async def _answer(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        fields = {**SERVER_HEADERS, "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"HTTP/1.1 {status} Status", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, content_type: str) -> None:
        """Send a line, and another one a little later."""
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        writer.write(b"b\r\ndata: one\n\n\r\n")
        await writer.drain()
        await asyncio.sleep(STREAM_PAUSE)
        writer.write(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")
        await writer.drain()


async def _body(headers: dict[str, str], reader: asyncio.StreamReader) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readuntil(b"\r\n")
        await reader.readuntil(b"\r\n")
        return body
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _websocket(key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept the upgrade and send every byte back."""
    accept = base64.b64encode(hashlib.sha1((key + WEBSOCKET_KEY_SUFFIX).encode()).digest()).decode()  # noqa: S324
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


class Slot:
    """One slot, as the tests see it: `start` and `stop` may be called any number of times, the port stays the same."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.running = False
        self.healthy = True
        self._process = subprocess.Popen(
            [sys.executable, __file__, name, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self) -> None:
        """Listen."""
        self._tell("start")
        self.running = True

    def stop(self) -> None:
        """Stop as on SIGTERM, and wait for the end of what is in flight."""
        self._tell("stop")
        self.running = False

    def set_healthy(self, healthy: bool) -> None:
        """Let health checks succeed or fail; other requests are answered all the same."""
        self._tell("healthy" if healthy else "unhealthy")
        self.healthy = healthy

    def forget(self) -> None:
        """Forget the requests up to now."""
        self._tell("forget")

    @property
    def requests(self) -> list[str]:
        """Every request but health checks, as "METHOD /path?query"."""
        return list(self._tell("report")["requests"])

    @property
    def bodies(self) -> list[int]:
        """Length of each request body that arrived completely."""
        return list(self._tell("report")["bodies"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=15)
        assert self._process.stdout
        self._process.stdout.close()

    def _tell(self, order: str) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def wait_until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until `condition()` is true; fail when it does not become so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(Server(sys.argv[1], int(sys.argv[2])).obey())
