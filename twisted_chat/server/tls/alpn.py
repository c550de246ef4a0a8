"""Which protocol a TLS connection speaks (ALPN, RFC 7301)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolNegotiationFactory

HTTP1: Final = (b"http/1.1",)
"""What a factory speaks that does not say."""


class NoCommonProtocol(SSL.Error):
    """The end of a handshake in which nothing is offered that is spoken here."""


def select_protocol(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """Return the protocol that the factory behind `connection` likes best of those that a client offers.

    Raises `NoCommonProtocol` where there is none: OpenSSL then sends the alert ``no_application_protocol``, as section
    3.2 wants; Twisted's own callback makes it ``internal_error``.
    """
    tls: Any = connection.get_app_data()
    negotiating = IProtocolNegotiationFactory(tls.factory.wrappedFactory, None)
    spoken = HTTP1 if negotiating is None else negotiating.acceptableProtocols()
    for protocol in spoken:
        if protocol in offered:
            return protocol
    raise NoCommonProtocol([("SSL routines", "", "no application protocol")])
