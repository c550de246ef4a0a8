"""JSON at the HTTP edge: what bodies are taken, answers, refusals among them."""

from __future__ import annotations

from typing import Final

from twisted.web.http import Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.http.request import field
from twisted_chat.wire import room as wire

JSON: Final = "application/json"


def check_json(request: Request) -> None:
    """Raise `ChatError` unless the body of `request` is JSON by its head, and not compressed."""
    kind = (field(request, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise ChatError(Reason.UNSUPPORTED_MEDIA_TYPE, f"post {JSON}; this is {kind[:80] or 'without a type'}")
    coding = (field(request, b"content-encoding") or "identity").strip().lower()
    if coding != "identity":
        request.setHeader("accept-encoding", "identity")  # RFC 9110 section 15.5.16
        raise ChatError(
            Reason.UNSUPPORTED_MEDIA_TYPE,
            f"this body is compressed (Content-Encoding: {coding[:80]}); post it as it is",
        )


def prepare_json(request: Request, status: int, size: int) -> None:
    """Set status and headers for a JSON body of `size` bytes."""
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-content-type-options", "nosniff")
    request.setHeader("content-length", str(size))


def answer(request: Request, status: int, body: bytes) -> bytes:
    """Set status and headers for a JSON body, and return it."""
    prepare_json(request, status, len(body) + 1)
    return b"" if request.method == b"HEAD" else body + b"\n"


def refuse(request: Request, error: ChatError) -> bytes:
    """The same for a refusal: ``{"error": {"code", "message"}}``."""
    if error.reason.http == 401:
        request.setHeader("www-authenticate", "Bearer")
    if error.reason.reconnect:
        request.setHeader("retry-after", "1")
    return answer(request, error.reason.http, wire.error(error))
