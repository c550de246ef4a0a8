"""permessage-deflate (RFC 7692) as a room can afford it: neither side keeps a window from one message to the next.

So one compressed frame is right for every member, and an idle connection holds no compressor and no decompressor.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def accept(offers: Iterable[object]) -> Accept | None:
    """The answer to the first offer that our frames suit."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer) and (offer.request_max_window_bits or 15) >= WINDOW_BITS:
            return Accept(offer)
    return None
