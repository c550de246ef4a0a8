"""What can go wrong on a link to Redis, and how it is said to clients."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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


class Known(NamedTuple):
    """An error reply that tells of the state of Redis, or of how it is set up: a matter for whoever runs it.

    reason, message
        what clients are told
    remedy
        what the operator is told besides the reply itself
    """

    reason: Reason
    message: str
    remedy: str


_STORAGE: Final = "the server's storage"
_MOVING: Final = f"{_STORAGE} is changing over to another machine; try again in a moment"
_FORBIDDEN: Final = f"{_STORAGE} does not let this server in; try again later"
_NOT_FOUND: Final = f"{_STORAGE} does not have what it needs; try again in a moment"
_CODE: Final = re.compile(r"^(?:ERR\b.*?\s-)?([A-Z]+)\b", re.DOTALL)
"""Redis 6 wraps the error of a command in a script: ``ERR Error running script (…): @user_script: 4: -OOM …``."""
_WORDS: Final = (
    # Replies that have no code of their own, or lose it in a script.
    (re.compile(r"ACL failure in script|The user executing the script can't"), "NOPERM"),
    (re.compile(r"unknown (?:redis )?command", re.IGNORECASE), "UNKNOWN"),
    (re.compile(r"max number of clients"), "MAXCLIENTS"),
)

_CLUSTER: Final = Known(
    Reason.TRY_AGAIN, _MOVING, "it is a node of a Redis Cluster; name single servers: several share the rooms"
)
KNOWN: Final = {
    "OOM": Known(
        Reason.STORAGE_FULL, f"{_STORAGE} is full; try again later", "give it more maxmemory, or keep less history"
    ),
    "READONLY": Known(Reason.TRY_AGAIN, _MOVING, "it is a replica; name the master, or the Sentinels that know it"),
    "MASTERDOWN": Known(Reason.TRY_AGAIN, _MOVING, "it is a replica without a master; name the master"),
    "MISCONF": Known(
        Reason.TRY_AGAIN,
        f"{_STORAGE} cannot write to its disk; try again later",
        "its disk is full or broken; its log says why it cannot save",
    ),
    "NOREPLICAS": Known(
        Reason.TRY_AGAIN,
        f"{_STORAGE} has too few copies right now; try again in a moment",
        "bring replicas back, or lower min-replicas-to-write",
    ),
    "LOADING": Known(Reason.TRY_AGAIN, f"{_STORAGE} is starting; try again in a moment", "it reads its data"),
    "BUSY": Known(Reason.TRY_AGAIN, f"{_STORAGE} is busy; try again in a moment", "some script runs for too long"),
    "NOPERM": Known(Reason.TRY_AGAIN, _FORBIDDEN, "let its user do that: ACL LOG says what; see docs/scaling.rst"),
    "NOAUTH": Known(Reason.TRY_AGAIN, _FORBIDDEN, "name USER:PASSWORD in the relay's URL"),
    "WRONGPASS": Known(Reason.TRY_AGAIN, _FORBIDDEN, "name the right USER:PASSWORD in the relay's URL"),
    "MAXCLIENTS": Known(Reason.TRY_AGAIN, _FORBIDDEN, "raise its maxclients"),
    "UNKNOWN": Known(Reason.TRY_AGAIN, _NOT_FOUND, "do not rename its commands"),
    "NOSCRIPT": Known(Reason.TRY_AGAIN, _NOT_FOUND, "it forgets scripts at once: let its user do SCRIPT LOAD"),
    "UNBLOCKED": Known(Reason.TRY_AGAIN, _NOT_FOUND, "somebody has emptied it"),
    "NOGROUP": Known(Reason.TRY_AGAIN, _NOT_FOUND, "somebody has emptied it"),
    "WRONGTYPE": Known(
        Reason.TRY_AGAIN, _NOT_FOUND, "another program has written to our keys; give each a ?prefix= of its own"
    ),
    "CLUSTERDOWN": _CLUSTER,
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
}
"""By the code of the reply."""


def error_code(error: BaseException | None) -> str:
    """The first word of an error reply: ``WRONGTYPE``, ``OOM``, or ``ERR`` for those that have none."""
    text = str(error)
    match = _CODE.match(text)
    code = match[1] if match else "ERR"
    if code == "ERR":
        return next((known for words, known in _WORDS if words.search(text)), code)
    return code


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
    known = KNOWN.get(error_code(error))
    if known is None:
        return ChatError(Reason.TRY_AGAIN, f"{_STORAGE} did not do that; try again later")
    return ChatError(known.reason, known.message)


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
