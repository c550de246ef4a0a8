"""Real clients over real sockets: what memory does not show, TLS and half-closed connections above all."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from ssl import create_default_context
from typing import Any, cast

import httpx
import pytest
import pytest_twisted
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import IReactorTime, IStreamServerEndpoint
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from twisted_chat.server.http.limits import HttpLimits
from twisted_chat.server.http.switch import ChatSite
from twisted_chat.server.tls.self_signed import FILE_NAME, make_self_signed

CURL = shutil.which("curl")
CURL_HAS_HTTP2 = CURL is not None and b"HTTP2" in subprocess.run([CURL, "--version"], capture_output=True).stdout
EVENTS = 5


class Tree(Resource):
    """Echoes bodies, and streams events to whoever asks for them."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.left: list[Deferred[None]] = []

    def render(self, request: Request) -> bytes | int:
        if request.path == b"/events":
            self._stream(request)
            return NOT_DONE_YET
        assert request.content is not None
        body = request.content.read()
        asked = {"protocol": request.clientproto.decode(), "secure": request.isSecure(), "length": len(body)}
        return json.dumps(asked).encode()

    def _stream(self, request: Request) -> None:
        request.setHeader("content-type", "text/event-stream")
        numbers = iter(range(EVENTS))

        def event() -> None:
            number = next(numbers, None)
            if number is not None:
                request.write(b"data: %d\n\n" % number)
            elif b"forever" not in request.uri:
                events.stop()
                request.finish()

        events = LoopingCall(event)
        end: Deferred[None] = request.notifyFinish()
        end.addErrback(lambda _reason: events.stop())
        self.left.append(end)
        events.start(0.01)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    make_self_signed(tmp_path, ["localhost", "127.0.0.1"], datetime.now(UTC))
    return tmp_path / FILE_NAME


def secure(endpoint: IStreamServerEndpoint, pem: Path) -> Any:
    return wrapServerTLS(ssl.PrivateCertificate.loadPEM(pem.read_bytes()).options(), endpoint)


async def serving(endpoint: Any, test: Callable[[ChatSite, Any], Awaitable[None]], **limits: Any) -> None:
    """Run `test` with a site and the address that it listens on."""
    from twisted.internet import reactor

    site = ChatSite(Tree(), reactor=cast("IReactorTime", reactor), limits=HttpLimits(**limits))
    port = await endpoint.listen(site)
    try:
        await test(site, port.getHost())
    finally:
        await port.stopListening()
        finished = site.shutdown()
        site.abort()
        await finished


def tcp() -> TCP4ServerEndpoint:
    from twisted.internet import reactor

    return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")


async def curl(*arguments: str) -> bytes:
    """What curl wrote, which must have succeeded."""
    assert CURL is not None
    out, err, code = await getProcessOutputAndValue(CURL, ["-sS", "--max-time", "60", *arguments], env={})
    assert code == 0, err
    return bytes(out)


@pytest.mark.skipif(not CURL_HAS_HTTP2, reason="curl without HTTP/2")
@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
@pytest.mark.parametrize("tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_curl(version: str, tls: bool, pem: Path, tmp_path: Path) -> None:
    # curl's --http2 without TLS asks for an upgrade from HTTP/1.1, which no server has to grant.
    expected = "HTTP/1.1" if version == "--http1.1" or (version == "--http2" and not tls) else "HTTP/2"

    async def test(site: ChatSite, address: Any) -> None:
        url = f"{'https' if tls else 'http'}://localhost:{address.port}"
        arguments = [version, "--cacert", str(pem), "--resolve", f"localhost:{address.port}:127.0.0.1"]
        asked = {"protocol": expected, "secure": tls, "length": 0}
        assert json.loads(await curl(*arguments, f"{url}/")) == asked
        (tmp_path / "body").write_bytes(b"x" * 60_000)
        body = f"@{tmp_path / 'body'}"
        assert json.loads(await curl(*arguments, "--data-binary", body, f"{url}/"))["length"] == 60_000
        events = await curl(*arguments, "-N", f"{url}/events")
        assert events == b"".join(b"data: %d\n\n" % number for number in range(EVENTS))
        # More than flow control and socket buffers take: the answer comes while curl still sends.
        (tmp_path / "body").write_bytes(b"x" * 5_000_000)
        refused = await curl(*arguments, "-w", "%{http_code}", "-H", "Expect:", "--data-binary", body, f"{url}/")
        assert refused.endswith(b"413")
        assert b"body_too_large" in refused

    await serving(secure(tcp(), pem) if tls else tcp(), test)


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_httpx(http2: bool, tls: bool, pem: Path) -> None:
    def talk(url: str) -> None:
        context = create_default_context(cafile=str(pem))
        # Without TLS httpx speaks HTTP/2 only if it is told nothing of HTTP/1.
        with httpx.Client(http1=not http2, http2=http2, verify=context, timeout=60, trust_env=False) as client:
            for number in range(10):
                answer = client.post(url, content=b"x" * number)
                assert answer.json()["length"] == number
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert client.get(f"{url}/events").text.count("data:") == EVENTS
            with client.stream("GET", f"{url}/events?forever") as stream:
                assert next(stream.iter_lines()) == "data: 0"
            answer = client.post(url, content=b"x" * 1_000_000)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")

    async def test(site: ChatSite, address: Any) -> None:
        await deferToThread(talk, f"{'https' if tls else 'http'}://127.0.0.1:{address.port}")
        assert isinstance(site.resource, Tree)
        # Both streams have ended, the second because its client left.
        for end in site.resource.left:
            await end

    await serving(secure(tcp(), pem) if tls else tcp(), test)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no unix sockets")
@pytest_twisted.ensureDeferred
async def test_unix_socket(tmp_path: Path) -> None:
    from twisted.internet import reactor

    path = str(tmp_path / "s")

    def talk() -> None:
        for http2 in (False, True):
            transport = httpx.HTTPTransport(uds=path, http1=not http2, http2=http2)
            with httpx.Client(transport=transport, timeout=60) as client:
                assert client.get("http://localhost/").json()["length"] == 0
                assert client.post("http://localhost/", content=b"x" * 1_000_000).status_code == 413

    async def test(site: ChatSite, address: Any) -> None:
        await deferToThread(talk)

    await serving(UNIXServerEndpoint(reactor, path), test)


@pytest_twisted.ensureDeferred
async def test_tls_handshake_that_is_never_finished_is_cut_off(pem: Path) -> None:
    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            try:
                return client.recv(1)
            except ConnectionResetError:
                return b""

    async def test(site: ChatSite, address: Any) -> None:
        assert await deferToThread(talk, address.port) == b""

    await serving(secure(tcp(), pem), test, handshake_timeout=0.2)
