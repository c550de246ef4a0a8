"""What can go wrong on a link to Redis, and how it is said to clients."""

from __future__ import annotations

import re
from typing import Final

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet import defer

from twisted_chat.core.errors import ChatError, Reason


class LinkDownError(Exception):
    """There is no link right now: the command was never sent."""


class LinkFullError(Exception):
    """Too many commands wait for their replies already: this one was never sent."""


class LinkLostError(Exception):
    """The link was lost before the reply came: Redis may have executed the command, or not."""


class UnusableError(Exception):
    """What answers there cannot be used; the message says why, and holds nothing secret."""


_STORAGE: Final = "the server's storage"
_CODE: Final = re.compile(r"^(?:ERR\b.*?\s-)?([A-Z]+)\b", re.DOTALL)
"""Redis 6 wraps the error of a command in a script: ``ERR Error running script (…): @user_script: 4: -OOM …``."""

_REFUSALS: Final = {
    "OOM": (Reason.STORAGE_FULL, f"{_STORAGE} is full; try again later"),
    "READONLY": (Reason.TRY_AGAIN, f"{_STORAGE} is changing over to another machine; try again in a moment"),
    "MASTERDOWN": (Reason.TRY_AGAIN, f"{_STORAGE} is changing over to another machine; try again in a moment"),
    "MISCONF": (Reason.TRY_AGAIN, f"{_STORAGE} cannot write to its disk; try again later"),
    "NOREPLICAS": (Reason.TRY_AGAIN, f"{_STORAGE} has too few copies right now; try again in a moment"),
    "LOADING": (Reason.TRY_AGAIN, f"{_STORAGE} is starting; try again in a moment"),
    "BUSY": (Reason.TRY_AGAIN, f"{_STORAGE} is busy; try again in a moment"),
}


def error_code(error: BaseException | None) -> str:
    """The first word of an error reply: ``WRONGTYPE``, ``OOM``, or ``ERR`` for those that have none."""
    match = _CODE.match(str(error))
    return match[1] if match else "ERR"


def refusal(error: BaseException | None) -> ChatError:
    """What clients are told about it."""
    if isinstance(error, ChatError):
        return error
    if isinstance(error, LinkFullError):
        return ChatError(Reason.TRY_AGAIN, f"{_STORAGE} has more to do than it can; try again in a moment")
    if isinstance(error, LinkDownError):
        return ChatError(Reason.TRY_AGAIN, f"{_STORAGE} cannot be reached right now; try again in a moment")
    if isinstance(error, LinkLostError):
        return ChatError(
            Reason.TRY_AGAIN,
            f"{_STORAGE} was lost before it answered, so this may have been done or not; repeat it with the same key",
        )
    known = _REFUSALS.get(error_code(error))
    return (
        ChatError(*known)
        if known is not None
        else ChatError(Reason.TRY_AGAIN, f"{_STORAGE} did not do that; try again later")
    )


def is_expected(error: BaseException | None) -> bool:
    """Whether it tells of the state that Redis is in, and not of a mistake."""
    return isinstance(error, (ChatError, LinkDownError, LinkFullError, LinkLostError)) or error_code(error) in _REFUSALS


def describe(error: BaseException | None) -> str:
    """Why there is no link, in one line for the log."""
    if isinstance(error, TLSError):
        reasons = [str(each[-1]) for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        return "TLS: " + ("; ".join(reasons) or "the connection was closed during the handshake")
    if isinstance(error, VerificationError):
        return "TLS: the certificate is not for this host name"
    if isinstance(error, (defer.TimeoutError, defer.CancelledError)):
        return "it did not answer in time"
    return " ".join(str(error).split()) or type(error).__name__
