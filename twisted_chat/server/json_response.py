"""JSON answers of the HTTP edge, refusals among them."""

from __future__ import annotations

from twisted.web.http import Request

from twisted_chat.core.errors import ChatError
from twisted_chat.wire import room as wire


def answer(request: Request, status: int, body: bytes) -> bytes:
    """Set status and headers for a JSON body, and return it."""
    request.setResponseCode(status)
    request.setHeader("content-type", "application/json")
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-content-type-options", "nosniff")
    request.setHeader("content-length", str(len(body) + 1))
    return b"" if request.method == b"HEAD" else body + b"\n"


def refuse(request: Request, error: ChatError) -> bytes:
    """The same for a refusal: ``{"error": {"code", "message"}}``."""
    if error.reason.http == 401:
        request.setHeader("www-authenticate", "Bearer")
    if error.reason.reconnect:
        request.setHeader("retry-after", "1")
    return answer(request, error.reason.http, wire.error(error))
