"""A small HTTP client for tests: one request, its answer, no redirect followed and no proxy used."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def data(self) -> Any:  # noqa: ANN401 - JSON is anything
        """The body, as JSON."""
        return json.loads(self.text)


def fetch(
    host: str,
    path: str = "/",
    *,
    port: int = 80,
    method: str = "GET",
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> Answer:
    """Send one request over a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
    finally:
        connection.close()


def wait_for(host: str, path: str = "/", *, port: int = 80, status: int = 200, timeout: float = 30) -> Answer:
    """Ask until the answer has the wanted status."""
    until = time.monotonic() + timeout
    while True:
        try:
            answer = fetch(host, path, port=port, timeout=5)
            if answer.status == status or time.monotonic() > until:
                assert answer.status == status, f"{path}: {answer.status} {answer.text}"
                return answer
        except (OSError, http.client.HTTPException):
            if time.monotonic() > until:
                raise
        time.sleep(0.1)
