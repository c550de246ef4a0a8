"""One request and its answer: `twisted.web.server.Request` without its banner and its HTML error pages."""

# mypy: disable-error-code="no-untyped-call"
# (calls of an inherited method count as ours, and twisted.web.server has no annotations)

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server

from twisted_chat.server.http.limits import HOST, SERVER, Refusal
from twisted_chat.server.http.rotation import Work

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE)


class ChatRequest(server.Request):
    """A request on HTTP/1.1 or HTTP/2; `channel` tells which."""

    _log = Logger()
    channel: Any  # an Http1Channel or an H2Stream; None once the connection is lost
    _waiting: Work | None = None

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        super().requestReceived(command, self._origin_form(path), version)

    def process(self) -> None:
        """Serve the request, all of which is here, when it is its turn."""
        connection = self.channel.connection
        self._waiting = self.channel.site.turns.take(
            connection, connection.address, super().process, self._process_late
        )

    def _process_late(self) -> None:
        self._waiting = None
        super().process()

    def connectionLost(self, reason: Failure) -> None:
        if self._waiting is not None:
            self.channel.site.turns.forget(self._waiting)
        super().connectionLost(reason)

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
            answer(self, Refusal(500, "internal", "the server failed to answer this; its log says why"))
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
    values = request.requestHeaders.getRawHeaders(name)
    return b", ".join(values).decode("utf-8", "replace") if values else None


def answer(request: server.Request, refusal: Refusal) -> None:
    """Answer `request` with `refusal` and finish it."""
    request.setResponseCode(refusal.status)
    for name, value in refusal.fields:
        request.setHeader(name, value)
    request.write(refusal.body)
    request.finish()
