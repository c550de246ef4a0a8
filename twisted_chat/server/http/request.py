"""One request and its answer: `twisted.web.server.Request` without its banner and its HTML error pages."""

# mypy: disable-error-code="no-untyped-call"
# (calls of an inherited method count as ours, and twisted.web.server has no annotations)

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers

from twisted_chat.server.http.body import BodyBuffer
from twisted_chat.server.http.limits import HOST, SERVER, HttpSite, Refusal, too_many_requests
from twisted_chat.server.http.request_rates import Verdict
from twisted_chat.server.http.rotation import Work

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE)
ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_FAILED: Final = Refusal(500, "internal", "the server failed to answer this; its log says why")


@runtime_checkable
class HeadChecker(Protocol):
    """A resource that may answer a request before its body is taken."""

    def check_head(self, request: server.Request) -> bytes | None:
        """Answer a request whose body is still to come, as `render` does with bytes. Return None to wait for the body.

        `render` follows when the body is there, and must check the same again: tokens expire, and rooms are closed.
        """


class ChatRequest(server.Request):
    """A request on HTTP/1.1 or HTTP/2; `channel` tells which."""

    _log = Logger()
    channel: Any  # an Http1Channel or an H2Stream; None once the connection is lost
    _waiting: Work | None = None

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        super().requestReceived(command, self._origin_form(path), version)

    def process(self) -> None:
        """Serve the request, all of which is here, when it is its turn."""
        channel = self.channel
        site, connection = channel.site, channel.connection
        self._allow_cross_origin()
        connection.asked = True
        address = site.address(self)
        verdict = Verdict.SERVE if site.rates is None else site.rates.judge(self, address)
        if verdict is Verdict.SERVE:
            self._waiting = site.turns.take(connection, address, self._serve)
        elif verdict is Verdict.REFUSE:
            self._waiting = site.turns.take(connection, address, self._refuse)
        elif verdict is Verdict.HOLD:
            self._waiting = Work(address, connection, self._serve)
            site.rates.hold(self._waiting)
        else:
            channel.cut_off(too_many_requests(site.rates.wait(address)))

    def _serve(self) -> None:
        self._waiting = None
        self.channel.serving(self)
        super().process()

    def _refuse(self) -> None:
        self._waiting = None
        self.channel.serving(self)
        if is_preflight(self) and self.responseHeaders.hasHeader(ALLOW_ORIGIN):
            # A browser would tell the page nothing; what it asks for is refused when it comes.
            super().process()
            return
        site = self.channel.site
        refusal = too_many_requests(site.rates.wait(site.address(self)))
        site.refused(refusal.code)
        answer(self, refusal)

    def connectionLost(self, reason: Failure) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.channel.site.forget(waiting)
        super().connectionLost(reason)

    def answer_head(self, command: bytes, target: bytes, version: bytes) -> bytes | None:
        """Find the resource of a request whose body is still to come, and return its answer if it needs no body.

        The channel writes the answer, finishes the request and throws the body away.
        """
        self.method, self.uri, self.clientproto = command, self._origin_form(target), version
        self.path, _, query = self.uri.partition(b"?")
        if self.path == b"*":
            return None
        self.args = http.parse_qs(query, 1)
        self.prepath, self.postpath = [], [unquote_to_bytes(part) for part in self.path[1:].split(b"/")]
        self.site = self.channel.site
        site: HttpSite = self.channel.site
        address, rates = site.address(self), site.rates
        if rates is not None and rates.exhausted(address):
            return None  # it is refused, or held, when it is all there
        self.setHeader(b"date", http.datetimeToString())
        self._allow_cross_origin()
        try:
            resource = self.site.getResourceFor(self)
            answered = resource.check_head(self) if isinstance(resource, HeadChecker) else None
            if answered is not None and rates is not None:
                self.channel.connection.asked = True
                rates.judge(self, address)  # counts it
            return answered
        except Exception:  # noqa: BLE001 - resources run in here
            self._log.failure("{method} request failed at its head", method=self.method)
            return prepare(self, _FAILED)

    def cross_origin(self, target: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Return the fields with which the page that sends this may read the answer, by what has come of the head."""
        if not self.requestHeaders.hasHeader(b"origin"):
            return ()
        fields: Iterable[tuple[bytes, bytes]] = self.channel.site.cross_origin(
            self._origin_form(target), self.requestHeaders
        )
        return fields

    def _allow_cross_origin(self) -> None:
        for name, value in self.cross_origin(self.uri):
            self.setHeader(name, value)

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        # Twisted knows no words for 426, 429 and others.
        super().setResponseCode(code, HTTPStatus(code).phrase.encode() if message is None else message)

    def write(self, data: bytes) -> None:
        if not self.startedWriting:
            self.setHeader(b"server", SERVER)
            if self.code == http.NO_CONTENT:
                # Twisted counts every body; RFC 9110 section 8.6 forbids it for the one that there is not.
                self.responseHeaders.removeHeader(b"content-length")
        super().write(data)

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500 without saying why, or cut an answer that had begun; the log has the reason."""
        self._log.failure("{method} request failed", reason, method=self.method)
        if self.channel is None or self.finished:
            return reason
        if self.startedWriting:
            self.channel.abortConnection()
        else:
            answer(self, _FAILED)
        return reason

    def _origin_form(self, target: bytes) -> bytes:
        """RFC 9112 section 3.2.2: a server takes ``GET http://host/path`` too, and that host counts."""
        match = _ABSOLUTE.fullmatch(target)
        if match is None or not HOST.fullmatch(match[1]):
            return target
        self.requestHeaders.setRawHeaders(b"host", [match[1]])
        path: bytes = match[2] or b"/"
        return path if path.startswith(b"/") else b"/" + path


def field(request: http.Request, name: bytes) -> str | None:
    """A field of the request's head, several of the same name as one list (RFC 9110 section 5.3); None: there is none.

    Clients may send any bytes. What is no UTF-8 is no value that anything here takes, and becomes U+FFFD.
    """
    return joined(request.requestHeaders, name)


def joined(headers: Headers, name: bytes) -> str | None:
    """Return a field of `headers`, as `field` does."""
    values = headers.getRawHeaders(name)
    return b", ".join(values).decode("utf-8", "replace") if values else None


def is_preflight(request: http.Request) -> bool:
    """Whether a browser asks if a page may send what it is about to send."""
    return request.method == b"OPTIONS" and request.requestHeaders.hasHeader(b"access-control-request-method")


def body_of(request: http.Request) -> bytes:
    """Return the whole body of `request`, once: the request lets go of it."""
    content = request.content
    return content.take() if isinstance(content, BodyBuffer) else b""


def prepare(request: http.Request, refusal: Refusal) -> bytes:
    """Set status and fields of a refusal, and return its body."""
    request.setResponseCode(refusal.status)
    for name, value in refusal.fields:
        request.setHeader(name, value)
    return refusal.body


def answer(request: server.Request, refusal: Refusal) -> None:
    """Answer `request` with `refusal` and finish it."""
    request.write(prepare(request, refusal))
    request.finish()
