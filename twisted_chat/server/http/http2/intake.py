"""From a client's bytes to h2's events, unless the client breaks the protocol or wears the server out."""

from __future__ import annotations

from typing import Final

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import DenialOfServiceError, ProtocolError, TooManyStreamsError

from twisted_chat.server.http.http2.conduct import Conduct
from twisted_chat.server.http.http2.frames import FrameTooLarge, HeadTooLarge


class Offence(Exception):  # noqa: N818  # the client's, not an error of ours
    """The connection has to end.

    reason
        what it is counted as: ``malformed`` or ``h2_abuse``
    code
        for the GOAWAY; None when h2 has made one already, with a code of its own
    """

    def __init__(self, message: str, reason: str, code: ErrorCodes | None) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.code: Final = code


def receive(h2: H2Connection, conduct: Conduct, data: bytes, now: float) -> list[Event]:
    """What happened in `data`. Raises `Offence`."""
    try:
        if not conduct.bears(data, now):
            raise Offence("too many frames that carry nothing", "h2_abuse", ErrorCodes.ENHANCE_YOUR_CALM)
        return h2.receive_data(data)
    except FrameTooLarge as error:
        raise Offence(str(error), "malformed", ErrorCodes.FRAME_SIZE_ERROR) from error
    except HeadTooLarge as error:
        raise Offence(str(error), "h2_abuse", ErrorCodes.ENHANCE_YOUR_CALM) from error
    except ProtocolError as error:
        abuse = isinstance(error, DenialOfServiceError | TooManyStreamsError)
        raise Offence(str(error), "h2_abuse" if abuse else "malformed", None) from error
