"""A client for one request over HTTP/3: httpx, which sends everything else, speaks HTTP/1.1 and HTTP/2 only."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamReset

if TYPE_CHECKING:
    from pathlib import Path

    from aioquic.asyncio.protocol import QuicStreamHandler
    from aioquic.quic.connection import QuicConnection

TIMEOUT = 10.0
"""Seconds that a request may take. UDP refuses no connection: where nobody speaks HTTP/3, simply nothing comes back."""


class NoAnswer(Exception):
    """The server ended the request or the connection before it had answered."""


class _Exchange(QuicConnectionProtocol):
    """A connection that sends one request and gathers the answer."""

    def __init__(self, quic: QuicConnection, stream_handler: QuicStreamHandler | None = None) -> None:
        super().__init__(quic, stream_handler)
        self._http = H3Connection(quic)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._ended: asyncio.Future[None] | None = None

    async def request(self, headers: list[tuple[bytes, bytes]], content: bytes) -> httpx.Response:
        """Send a request and wait for the end of its answer."""
        stream = self._quic.get_next_available_stream_id()
        self._http.send_headers(stream, headers, end_stream=not content)
        if content:
            self._http.send_data(stream, content, end_stream=True)
        self._ended = asyncio.get_running_loop().create_future()
        self.transmit()
        await self._ended
        fields = dict(self._headers)
        return httpx.Response(
            int(fields[b":status"]),
            headers=[(name, value) for name, value in self._headers if not name.startswith(b":")],
            content=self._body,
            extensions={"http_version": b"HTTP/3"},
        )

    def quic_event_received(self, event: QuicEvent) -> None:
        """Read what the server sends; aioquic calls this."""
        waiting = self._ended if self._ended and not self._ended.done() else None
        if waiting and isinstance(event, ConnectionTerminated | StreamReset):
            waiting.set_exception(NoAnswer(repr(event)))
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                self._headers += part.headers
            elif isinstance(part, DataReceived):
                self._body += part.data
            if waiting and isinstance(part, HeadersReceived | DataReceived) and part.stream_ended:
                waiting.set_result(None)


def request(
    method: str,
    host: str,
    path: str,
    *,
    port: int,
    authority: Path | None,
    server_name: str | None = None,
    headers: dict[str, str] | None = None,
    content: bytes = b"",
    with_length: bool = True,
) -> httpx.Response:
    """Send a request over HTTP/3 to this machine, on a connection of its own.

    Args:
        method: For example "GET".
        host: The site's name.
        path: Path and query.
        port: The UDP port of the server.
        authority: Certificate of the authority that must have signed the server's certificate; None: any will do.
        server_name: The name for which a certificate is asked and checked, if it is not the site's.
        headers: More headers.
        content: The body.
        with_length: Tell the body's length beforehand.

    Raises:
        NoAnswer: The server ended the request or the connection before it had answered.
        ConnectionError: There was no connection.
        TimeoutError: Nothing came.
    """
    fields = {":method": method, ":scheme": "https", ":authority": host, ":path": path}
    fields |= {name.lower(): value for name, value in (headers or {}).items()}
    if content and with_length:
        fields["content-length"] = str(len(content))
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name=server_name or host)
    if authority:
        configuration.load_verify_locations(cafile=str(authority))
    else:
        configuration.verify_mode = ssl.CERT_NONE

    async def exchange() -> httpx.Response:
        async with (
            asyncio.timeout(TIMEOUT),
            connect("127.0.0.1", port, configuration=configuration, create_protocol=_Exchange) as connection,
        ):
            pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
            return await cast("_Exchange", connection).request(pairs, content)

    return asyncio.run(exchange())
