"""Somebody who is told by HTTP: a dead man's switch, or whoever is to hear of a failure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Listener:
    """What was asked of it, oldest first: the path, and the text that came along."""

    address: str = ""
    heard: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def listener(host: str = "127.0.0.1") -> Iterator[Listener]:
    """Listen on a port of its own, at an address of this machine."""
    made = Listener()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            made.heard.append((self.path, self.rfile.read(length).decode()))
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.address = f"http://{host}:{server.server_port}"
        yield made
        server.shutdown()
