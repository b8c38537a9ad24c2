"""What a client and the application see: the same assertions for Caddy and nginx."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.proxy import http3
from tests.proxy.programs import MAX_REQUEST_SIZE
from tests.proxy.slot import OWN_HEADERS, STREAM_PAUSE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proxy.programs import Proxy

    Request3 = Callable[..., httpx.Response]

API, WEB, WWW = "api.shop.test", "shop.test", "www.shop.test"

DEFAULT_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
YEAR = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module", autouse=True)
def slow_client(proxy: Proxy) -> Iterator[Future[float]]:
    """A client that never ends its request header; the result tells after how many seconds it was cut off."""

    def wait() -> float:
        with proxy.tls(WEB) as connection:
            start = time.monotonic()
            connection.sendall(b"GET /page HTTP/1.1\r\nHost: ")
            assert b" 200 " not in receive(connection)
            return time.monotonic() - start

    with ThreadPoolExecutor() as pool:
        yield pool.submit(wait)


def values(response: httpx.Response, name: str) -> list[str]:
    """List a header's values: one that is sent twice is noticed."""
    return response.headers.get_list(name)


def receive(connection: socket.socket, *, until: bytes = b"") -> bytes:
    """Read until some bytes arrived, or until the other side closes."""
    data = b""
    while not (until and until in data):
        try:
            part = connection.recv(65536)
        except (ConnectionError, ssl.SSLError):
            break
        if not part:
            break
        data += part
    return data


class TestSites:
    """Which name and scheme leads where."""

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    def test_each_name_reaches_its_service(self, proxy: Proxy, http2: bool) -> None:
        for host, slot in ((API, "api-blue"), (WEB, "web-blue")):
            answer = proxy.get(host, "/echo", http2=http2)
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.json()["slot"] == slot

    def test_http3_is_offered(self, proxy: Proxy) -> None:
        offered = proxy.get(WEB, "/page").headers["Alt-Svc"]
        port = {"caddy": proxy.https, "nginx": 443}[proxy.program]
        assert offered.startswith(f'h3=":{port}"')
        with pytest.raises(OSError, match="in use"), socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", proxy.https))

    @pytest.mark.parametrize("host", [API, WEB, WWW])
    def test_plain_http_is_redirected_to_https(self, proxy: Proxy, host: str) -> None:
        url = f"http://127.0.0.1:{proxy.http}/some/path?a=b%20c&d=%2F"
        answer = httpx.post(url, headers={"Host": host}, content=b"body", trust_env=False)
        assert answer.status_code == 308
        location = answer.headers["Location"].replace(f":{proxy.https}/", "/")
        assert location == f"https://{host}/some/path?a=b%20c&d=%2F"
        assert "Strict-Transport-Security" not in answer.headers

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    def test_www_is_redirected_with_path_and_query(self, proxy: Proxy, http2: bool) -> None:
        answer = proxy.get(WWW, "/some/path?a=b%20c&d=%2F", http2=http2)
        assert answer.status_code == 308
        assert answer.headers["Location"] == f"https://{WEB}/some/path?a=b%20c&d=%2F"
        assert values(answer, "Strict-Transport-Security") == ["max-age=31536000"]

    def test_an_unknown_name_gets_no_certificate(self, proxy: Proxy) -> None:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert|unrecognized"):
            proxy.tls("unknown.test")

    def test_an_unknown_name_behind_a_known_certificate_gets_no_answer(self, proxy: Proxy) -> None:
        with proxy.tls(WEB) as connection:
            connection.sendall(b"GET /echo HTTP/1.1\r\nHost: unknown.test\r\n\r\n")
            assert receive(connection) == b""

    def test_plain_http_of_an_unknown_name_is_no_site(self, proxy: Proxy) -> None:
        answer = httpx.get(f"http://127.0.0.1:{proxy.http}/", headers={"Host": "unknown.test"}, trust_env=False)
        assert answer.status_code == 308
        assert answer.headers["Location"].replace(f":{proxy.https}/", "/") == "https://unknown.test/"


class TestHeaders:
    """What the proxy adds to answers, and what it takes away."""

    @pytest.mark.parametrize("host", [API, WEB])
    @pytest.mark.parametrize("path", ["/page", "/does-not-exist", "/_next/static/app.js"])
    def test_security_headers_are_present_once(self, proxy: Proxy, host: str, path: str) -> None:
        answer = proxy.get(host, path)
        assert {name: values(answer, name) for name in DEFAULT_HEADERS} == {
            name: [value] for name, value in DEFAULT_HEADERS.items()
        }

    def test_the_applications_own_headers_win(self, proxy: Proxy) -> None:
        answer = proxy.get(WEB, "/own-headers")
        assert {name: values(answer, name) for name in OWN_HEADERS} == {
            name: [value] for name, value in OWN_HEADERS.items()
        }

    @pytest.mark.parametrize("path", ["/page", "/_next/static/app.js"])
    def test_nothing_tells_which_programs_answer(self, proxy: Proxy, path: str) -> None:
        answer = proxy.get(WEB, path)
        assert answer.headers.get("Server") in {None, "nginx"}
        assert "X-Powered-By" not in answer.headers
        assert "Via" not in answer.headers

    def test_static_assets_are_kept_for_good(self, proxy: Proxy) -> None:
        assert values(proxy.get(WEB, "/_next/static/app.js"), "Cache-Control") == [YEAR]

    def test_a_missing_static_asset_is_not_kept(self, proxy: Proxy) -> None:
        answer = proxy.get(WEB, "/_next/static/missing.js")
        assert answer.status_code == 404
        assert values(answer, "Cache-Control") == ["no-store"]

    def test_caching_of_pages_is_the_applications_affair(self, proxy: Proxy) -> None:
        assert values(proxy.get(WEB, "/page"), "Cache-Control") == ["private, no-cache"]


class TestForwarding:
    """What the application learns about the client."""

    FORGED = {  # noqa: RUF012
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9;proto=http;host=evil.test",
    }

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    def test_a_client_cannot_forge_its_address(self, proxy: Proxy, http2: bool) -> None:
        seen = proxy.get(API, "/echo", headers=self.FORGED, http2=http2).json()["headers"]
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert seen["x-forwarded-host"] == API
        assert seen["x-forwarded-proto"] == "https"
        assert seen["x-real-ip"] == "127.0.0.1"
        assert "forwarded" not in seen
        assert seen["host"] == API

    def test_a_port_in_the_name_is_kept(self, proxy: Proxy) -> None:
        seen = proxy.get(API, "/echo", headers={"Host": f"{API}:8443"}).json()["headers"]
        assert (seen["host"], seen["x-forwarded-host"]) == (f"{API}:8443", f"{API}:8443")

    def test_path_and_query_arrive_as_they_were_sent(self, proxy: Proxy) -> None:
        target = "/echo?a=b%20c&d=%2F&e=%E2%82%AC"
        assert proxy.get(API, target).json()["target"] == target


class TestBodies:
    """Sizes, compression, streams."""

    def test_a_request_of_the_permitted_size_arrives(self, proxy: Proxy) -> None:
        answer = proxy.request("POST", API, "/echo", content=b"x" * MAX_REQUEST_SIZE)
        assert answer.json()["length"] == MAX_REQUEST_SIZE

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    @pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
    def test_a_larger_request_is_refused(self, proxy: Proxy, chunked: bool, http2: bool) -> None:
        before = list(proxy.slots["api-blue"].bodies)
        body = b"x" * (MAX_REQUEST_SIZE + 1)
        content: Any = iter([body]) if chunked else body
        assert proxy.request("POST", API, "/echo", content=content, http2=http2).status_code == 413
        assert proxy.slots["api-blue"].bodies == before

    @pytest.mark.parametrize("path", ["/echo", "/page"])
    def test_refused_and_broken_uploads_take_no_slot_out_of_service(self, proxy: Proxy, path: str) -> None:
        for _ in range(10):
            proxy.request("POST", API, path, content=iter([b"x" * (MAX_REQUEST_SIZE + 1)]))
            with proxy.tls(API) as connection:
                connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {API}\r\nContent-Length: 100\r\n\r\nx".encode())
            start = time.monotonic()
            assert proxy.get(API, "/page").status_code == 200
            assert time.monotonic() - start < 0.4

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    def test_text_is_compressed(self, proxy: Proxy, http2: bool) -> None:
        answer = proxy.get(WEB, "/text", headers={"Accept-Encoding": "gzip"}, http2=http2)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in answer.headers["Vary"]
        assert answer.text == "compressible " * 1000

    @pytest.mark.parametrize(("path", "accepted"), [("/text", "identity"), ("/picture", "gzip"), ("/page", "gzip")])
    def test_what_would_not_gain_is_not_compressed(self, proxy: Proxy, path: str, accepted: str) -> None:
        answer = proxy.get(WEB, path, headers={"Accept-Encoding": accepted})
        assert "Content-Encoding" not in answer.headers

    @pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
    @pytest.mark.parametrize("path", ["/stream", "/events"])
    def test_a_stream_is_passed_on_as_it_comes(self, proxy: Proxy, path: str, http2: bool) -> None:
        url, headers = f"https://127.0.0.1:{proxy.https}{path}", {"Host": WEB, "Accept-Encoding": "gzip"}
        with (
            proxy.client(http2=http2) as client,
            client.stream("GET", url, headers=headers, extensions={"sni_hostname": WEB}) as answer,
        ):
            start = time.monotonic()
            parts: Iterator[str] = answer.iter_text()
            assert next(part for part in parts if part) == "data: one\n\n"
            assert time.monotonic() - start < STREAM_PAUSE / 2
            assert "".join(parts) == "data: two\n\n"
            assert time.monotonic() - start > STREAM_PAUSE * 0.9

    def test_an_upload_is_passed_on_as_it_comes(self, proxy: Proxy) -> None:
        slot = proxy.slots["api-blue"]
        before = len(slot.requests)
        with proxy.tls(API) as connection:
            connection.sendall(f"POST /echo HTTP/1.1\r\nHost: {API}\r\nContent-Length: 2\r\n\r\nx".encode())
            wait_until(lambda: len(slot.requests) > before, seconds=2)
            connection.sendall(b"x")
            assert b" 200 " in receive(connection, until=b"\r\n")

    def test_websockets_work_in_both_directions(self, proxy: Proxy) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        with proxy.tls(WEB) as connection:
            connection.sendall(
                f"GET /websocket HTTP/1.1\r\nHost: {WEB}\r\n{upgrade}Sec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            assert receive(connection, until=b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            for message in (b"\x81\x85abcdhello", b"\x81\x85abcdagain"):
                connection.sendall(message)
                assert receive(connection, until=message) == message


class TestHttp3:
    """The same over QUIC, with certificates checked."""

    @pytest.fixture
    def request3(self, proxy: Proxy) -> Request3:
        """Send a request over HTTP/3; trusted is only the authority of this proxy's certificates."""
        authority = {"caddy": "caddy/pki/authorities/local/root.crt", "nginx": "certificate.pem"}[proxy.program]
        return partial(http3.request, port=proxy.https, authority=proxy.output.parent / authority)

    @pytest.mark.parametrize(("host", "path"), [(WEB, "/page"), (WEB, "/_next/static/app.js"), (API, "/page")])
    def test_an_answer_is_the_one_of_http2(self, proxy: Proxy, request3: Request3, host: str, path: str) -> None:
        answer, expected = request3("GET", host, path), proxy.get(host, path, http2=True)
        assert (answer.http_version, expected.http_version) == ("HTTP/3", "HTTP/2")
        assert (answer.status_code, answer.content) == (200, expected.content)
        assert {name: values(answer, name) for name in DEFAULT_HEADERS} == {
            name: [value] for name, value in DEFAULT_HEADERS.items()
        }
        # Caddy does not offer HTTP/3 to those who use it.
        names = {*expected.headers, *answer.headers} - {"date", "alt-svc"}
        assert {name: values(answer, name) for name in names} == {name: values(expected, name) for name in names}

    def test_www_is_redirected_with_path_and_query(self, request3: Request3) -> None:
        answer = request3("GET", WWW, "/some/path?a=b%20c&d=%2F")
        assert (answer.status_code, answer.headers["Location"]) == (308, f"https://{WEB}/some/path?a=b%20c&d=%2F")

    @pytest.mark.parametrize("with_length", [True, False], ids=["length", "no-length"])
    def test_a_body_arrives_once(self, proxy: Proxy, request3: Request3, with_length: bool) -> None:
        slot, target = proxy.slots["api-blue"], f"/echo?http3=a%2Fb&with_length={with_length}"
        before = list(slot.bodies)
        answer = request3(
            "POST",
            API,
            target,
            headers=TestForwarding.FORGED,
            content=b"x" * MAX_REQUEST_SIZE,
            with_length=with_length,
        )
        assert answer.status_code == 200
        assert slot.requests.count(f"POST {target}") == 1
        assert slot.bodies == [*before, MAX_REQUEST_SIZE]
        seen = answer.json()
        assert (seen["slot"], seen["method"], seen["target"]) == ("api-blue", "POST", target)
        names = ("host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
        assert [seen["headers"][name] for name in names] == [API, "127.0.0.1", API, "https", "127.0.0.1"]

    @pytest.mark.parametrize("with_length", [True, False], ids=["length", "no-length"])
    def test_a_larger_request_is_refused(self, proxy: Proxy, request3: Request3, with_length: bool) -> None:
        before = list(proxy.slots["api-blue"].bodies)
        body = b"x" * (MAX_REQUEST_SIZE + 1)
        answer = request3("POST", API, "/echo", content=body, with_length=with_length)
        assert answer.status_code == 413
        assert proxy.slots["api-blue"].bodies == before

    def test_an_unknown_name_gets_no_certificate(self, request3: Request3) -> None:
        with pytest.raises(ConnectionError):
            request3("GET", "unknown.test", "/echo", authority=None)

    def test_an_unknown_name_behind_a_known_certificate_gets_no_answer(self, request3: Request3) -> None:
        with pytest.raises(http3.NoAnswer):
            request3("GET", "unknown.test", "/echo", server_name=WEB)

    def test_the_access_log_says_so(self, proxy: Proxy, request3: Request3) -> None:
        request3("GET", WEB, "/does-not-exist/http3?token=s3cret")
        line = proxy.log("/does-not-exist/http3")
        assert (line["status"], line["size"]) == (404, len("nothing here"))
        request = {name: line["request"][name] for name in ("remote_ip", "proto", "method", "host")}
        assert request == {"remote_ip": "127.0.0.1", "proto": "HTTP/3.0", "method": "GET", "host": WEB}


class TestLog:
    """The access log: JSON, one line for a request, no secret in it."""

    def test_a_request_is_one_line_of_json(self, proxy: Proxy) -> None:
        proxy.get(WEB, "/does-not-exist/logged", headers={"User-Agent": 'quotes " and \\'}, http2=True)
        line = proxy.log("/does-not-exist/logged")
        assert line["status"] == 404
        assert line["user_agent"] == 'quotes " and \\'
        assert isinstance(line["duration"], float)
        assert isinstance(line["ts"], float)
        assert line["size"] == len("nothing here")
        request = {name: line["request"][name] for name in ("remote_ip", "proto", "method", "host", "uri")}
        assert request == {
            "remote_ip": "127.0.0.1",
            "proto": "HTTP/2.0",
            "method": "GET",
            "host": WEB,
            "uri": "/does-not-exist/logged",
        }

    def test_no_secret_is_written(self, proxy: Proxy) -> None:
        secrets = {
            "Authorization": "Bearer s3cret",
            "Cookie": "session=s3cret",
            "Proxy-Authorization": "Basic s3cret",
            "Referer": f"https://{WEB}/reset?token=s3cret",
            "X-Api-Key": "s3cret",
        }
        query = "&".join(f"{name}=s3cret" for name in ("token", "access_token", "code", "password", "key", "signature"))
        proxy.get(WEB, f"/does-not-exist/secret?{query}", headers=secrets)
        proxy.request("POST", WEB, f"/refused?{query}", headers=secrets, content=b"x" * (MAX_REQUEST_SIZE + 1))
        assert proxy.log("/does-not-exist/secret")["status"] == 404
        assert proxy.log("/refused")["status"] == 413
        # An error that the proxy itself reports must not quote the request either.
        for slot in ("web-blue", "web-green"):
            proxy.slots[slot].stop()
        assert proxy.get(WEB, f"/unreachable?{query}", headers=secrets).status_code in {502, 503}
        proxy.start_slots("api-blue", "web-blue")
        proxy.log("/unreachable")
        assert [line for line in proxy.output.read_text().splitlines() if "s3cret" in line] == []

    def test_health_checks_do_not_fill_the_log(self, proxy: Proxy) -> None:
        before = len(proxy.output.read_text())
        time.sleep(2.5)
        written = proxy.output.read_text()[before:].splitlines()
        assert not [line for line in written if "green" in line or "health" in line]


class TestInternalListener:
    """Server-side calls to the API, as http://api:8080."""

    def test_it_reaches_the_running_slot_without_redirect_or_public_headers(self, proxy: Proxy) -> None:
        answer = httpx.post(
            f"http://127.0.0.1:{proxy.internal}/echo", headers={"Host": "api:8080"}, content=b"body", trust_env=False
        )
        assert answer.status_code == 200
        assert answer.json()["slot"] == "api-blue"
        assert answer.json()["headers"]["x-forwarded-proto"] == "http"
        assert answer.json()["headers"]["host"] == "api:8080"
        assert not {name for name in (*DEFAULT_HEADERS, "Alt-Svc") if name in answer.headers}

    def test_it_has_the_same_limit(self, proxy: Proxy) -> None:
        url = f"http://127.0.0.1:{proxy.internal}/echo"
        assert httpx.post(url, content=b"x" * (MAX_REQUEST_SIZE + 1), trust_env=False).status_code == 413

    def test_it_writes_no_access_log(self, proxy: Proxy) -> None:
        httpx.get(f"http://127.0.0.1:{proxy.internal}/does-not-exist/internal", trust_env=False)
        time.sleep(0.2)
        assert "/does-not-exist/internal" not in [line["request"]["uri"] for line in proxy.access_log()]


def test_a_page_in_the_folder_closes_every_site_at_once(proxy: Proxy) -> None:
    page = proxy.folder / "maintenance.html"
    page.write_text("<p>Back soon", encoding="utf-8")
    try:
        for host, path in ((WEB, "/page"), (API, "/echo"), (WEB, "/_next/static/app.js")):
            answer = proxy.get(host, path)
            assert (answer.status_code, answer.text) == (503, "<p>Back soon"), host
            assert answer.headers["Retry-After"] == "300"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Type"].startswith("text/html")
        internal = httpx.get(f"http://127.0.0.1:{proxy.internal}/echo", trust_env=False)
        assert internal.status_code == 200, "front ends and worker go on"
    finally:
        page.unlink()
    assert proxy.get(WEB, "/page").status_code == 200


def test_assets_of_earlier_releases_are_served_without_a_slot_that_has_them(proxy: Proxy) -> None:
    kept = proxy.folder / "static/web/_next/static/chunks/old.js"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("old", encoding="utf-8")
    answer = proxy.get(WEB, "/_next/static/chunks/old.js")
    assert (answer.status_code, answer.text) == (200, "old")
    assert "javascript" in answer.headers["Content-Type"]
    assert values(answer, "Cache-Control") == [YEAR]
    assert len(values(answer, "X-Content-Type-Options")) == 1
    assert proxy.get(WEB, "/_next/static/../../../../Caddyfile").status_code == 404
    assert proxy.get(API, "/_next/static/chunks/old.js").status_code == 404


def test_a_header_sent_too_slowly_is_cut_off(slow_client: Future[float]) -> None:
    assert 8 < slow_client.result() < 13


def test_every_line_of_the_log_is_json_or_nginx_speaking_of_itself(proxy: Proxy) -> None:
    for line in proxy.output.read_text().splitlines():
        if proxy.program == "caddy" or line.startswith("{"):
            json.loads(line)
        else:
            assert "[notice]" in line
