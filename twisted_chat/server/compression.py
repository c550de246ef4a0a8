"""permessage-deflate (RFC 7692) as a room can afford it: neither side keeps a window from one message to the next.

So one compressed frame is right for every member, and an idle connection holds no compressor and no decompressor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept

from twisted_chat.wire.frames import WINDOW_BITS


class Accept(PerMessageDeflateOfferAccept):
    """Says yes to an offer, and that no context is taken over in either direction.

    A server may say so whatever was offered, sections 7.1.1.1 and 7.1.1.2; Autobahn would not.
    """

    def __init__(self, offer: PerMessageDeflateOffer) -> None:
        super().__init__(offer, no_context_takeover=True)
        self.request_no_context_takeover = True

    def get_extension_string(self) -> str:
        parameters = ["server_no_context_takeover", "client_no_context_takeover"]
        if self.offer.request_max_window_bits:
            parameters.append(f"server_max_window_bits={self.offer.request_max_window_bits}")
        return "; ".join([self.EXTENSION_NAME, *parameters])


_WINDOW: Final = re.compile(r'"?(8|9|1[0-5])"?')
"""RFC 7692 section 7.1.2: the bits of a window. A value may be quoted (RFC 6455 section 9.1)."""

_LEAST_WINDOW: Final = 9
"""zlib makes no smaller one."""


def read_offers(header: str) -> list[PerMessageDeflateOffer]:
    """Return the offers in ``Sec-WebSocket-Extensions`` that can be taken, in their order.

    One that cannot be, or is none of permessage-deflate, is left out: it is declined by not being answered (RFC 7692
    section 5.1), and the next one counts.
    """
    offers = (_read_offer(offer) for offer in header.split(","))
    return [offer for offer in offers if offer is not None]


def _read_offer(text: str) -> PerMessageDeflateOffer | None:
    name, *parameters = (part.strip() for part in text.split(";"))
    if name.lower() != Accept.EXTENSION_NAME:
        return None
    given: dict[str, str | None] = {}
    for parameter in parameters:
        key, equals, value = (part.strip() for part in parameter.partition("="))
        if key in given:
            return None
        given[key] = value if equals else None
    server_window = given.pop("server_max_window_bits", "15")
    # A client that says how far back it refers at most asks for nothing: every window is large enough for that.
    client_window = given.pop("client_max_window_bits", None)
    bare = given.keys() <= {"server_no_context_takeover", "client_no_context_takeover"} and not any(
        value is not None for value in given.values()
    )
    asked = _WINDOW.fullmatch(server_window or "")
    if not bare or asked is None or not (client_window is None or _WINDOW.fullmatch(client_window)):
        return None
    bits = int(asked[1])
    if bits < _LEAST_WINDOW:
        return None
    return PerMessageDeflateOffer(
        accept_no_context_takeover=True,
        accept_max_window_bits=False,
        request_no_context_takeover=True,
        request_max_window_bits=bits if "server_max_window_bits" in text else 0,
    )


def accept(offers: Iterable[object]) -> Accept | None:
    """The answer to the first offer that our frames suit."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and (offer.request_max_window_bits or 15) >= WINDOW_BITS:
            return Accept(offer)
    return None
