"""What browsers are told about pages of other sites: whether one may read the answer of a room's URL (CORS).

A browser shows an answer without these fields to no page of another site, neither its status nor why it was refused.
So all answers have them, those of the HTTP layer too, which gives them before a room is looked for.

The rules are those of the Fetch standard, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

import re
from typing import Final

from twisted.web.http_headers import Headers

from twisted_chat.auth import is_hostless
from twisted_chat.server.admission import Admission

_ROOM: Final = re.compile(rb"/chat(?:[/?]|\Z)")
_EVERY: Final = "*"


class CrossOrigin:
    """The fields for pages of the origins that `admission` allows; a `server.http.limits.CrossOriginFields`."""

    def __init__(self, admission: Admission) -> None:
        self._admission: Final = admission

    def __call__(self, target: bytes, headers: Headers) -> list[tuple[bytes, bytes]]:
        if not _ROOM.match(target):
            return []
        origin = self._admission.allowed_origin(headers)
        if origin is None:
            return []
        fields = [
            (b"access-control-allow-origin", origin.encode()),
            (b"access-control-expose-headers", b"retry-after"),
            (b"vary", b"origin"),
        ]
        # `sendBeacon` always asks with credentials. No cookie is read here; but a proxy in front may read them, so only
        # sites that are named get this, not "null" and the like, which any page can have for its origin.
        if origin != _EVERY and not is_hostless(origin):
            fields.append((b"access-control-allow-credentials", b"true"))
        return fields
