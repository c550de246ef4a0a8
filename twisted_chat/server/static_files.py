"""Our page's files, read once at start: they are few and small, and cannot change under a running server."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

from twisted.web.http import CACHED
from twisted.web.server import Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.bodyless import Bodyless
from twisted_chat.server.json_response import refuse

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
        "require-trusted-types-for 'script'",
    )
)

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is served."""

    body: bytes
    content_type: str
    etag: bytes

    def render(self, request: Request) -> bytes:
        """Answer a GET or HEAD with it, and nothing else."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("allow", "GET, HEAD")
            return refuse(request, ChatError(Reason.METHOD_NOT_ALLOWED, "this is only to be read: GET or HEAD"))
        request.setHeader("content-type", self.content_type)
        request.setHeader("x-content-type-options", "nosniff")
        request.setHeader("cache-control", "no-cache")  # keep it, but ask whether it is still the same
        if self.content_type.startswith("text/html"):
            request.setHeader("content-security-policy", CONTENT_SECURITY_POLICY)
            request.setHeader("referrer-policy", "no-referrer")
        else:
            # The client module is there to be imported by other sites; nothing here is secret.
            request.setHeader("access-control-allow-origin", "*")
            request.setHeader("cross-origin-resource-policy", "cross-origin")
        if request.setETag(self.etag) is CACHED:
            return b""
        request.setHeader("content-length", str(len(self.body)))
        return b"" if request.method == b"HEAD" else self.body


def load() -> dict[str, StaticFile]:
    """All files by name."""
    found = {}
    for file in files("twisted_chat.server").joinpath("static").iterdir():
        ending = file.name.rpartition(".")[2]
        if ending in _TYPES:
            body = file.read_bytes()
            etag = b'"%b"' % sha256(body).hexdigest()[:32].encode()
            found[file.name] = StaticFile(body, _TYPES[ending], etag)
    return found


class StaticFiles(Bodyless):
    """``/static/NAME``."""

    def __init__(self, static: dict[str, StaticFile]) -> None:
        super().__init__()
        self._static: Final = static

    def render(self, request: Request) -> bytes:
        name = b"/".join(request.postpath or []).decode("utf-8", "replace")
        file = self._static.get(name)
        if file is None:
            return refuse(request, ChatError(Reason.NOT_FOUND, f"there is no file {name[:80]!r} here"))
        return file.render(request)
