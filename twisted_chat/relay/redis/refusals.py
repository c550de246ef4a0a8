"""What Redis refuses, in the log: a line for each kind now and then, however often that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_chat.core.errors import ChatError
from twisted_chat.relay.redis.errors import (
    KNOWN,
    LinkDownError,
    LinkFullError,
    LinkLostError,
    UnusableError,
    describe,
    error_code,
)

EVERY: Final = 60.0
"""Seconds between two lines of one kind, at least."""


class Work(NamedTuple):
    """Something that is asked of Redis.

    fails, works
        what it means that it is refused, and that it is not any more
    """

    fails: str
    works: str


PUBLISHING: Final = Work("messages are refused", "messages are stored again")
READING: Final = Work("the history is not read", "the history is read again")
PRESENCE: Final = Work("other nodes are not told who is present", "other nodes are told again who is present")
CHECKING: Final = Work("messages that are lost are found late", "messages that are lost are looked for again")
QUEUEING: Final = Work("events of consumers wait", "events of consumers are taken again")
TAKING: Final = Work("no events of consumers are run", "events of consumers are run again")


class Refusals:
    """One for each server.

    A kind is the work that is refused, and the code of the reply. What is no reply of Redis that an operator can do
    something about is a mistake of this program, and comes with its traceback, as seldom.
    """

    _log = Logger()

    def __init__(self, name: str, seconds: Callable[[], float]) -> None:
        self._name: Final = name
        self._seconds: Final = seconds
        self._said: Final[dict[tuple[Work, str], _Said]] = {}
        self._worked: Final[dict[Work, float]] = {}
        """When it was said last that they are done again."""
        self._refused: Final[set[Work]] = set()

    def refused(self, work: Work, failure: Failure) -> None:
        """It failed. What the links have said already, and what was meant for a client, is not said again."""
        error = failure.value
        if isinstance(error, (ChatError, CancelledError, LinkDownError, LinkLostError, UnusableError)):
            return
        self._refused.add(work)
        code = "FULL" if isinstance(error, LinkFullError) else error_code(error)
        said = self._said.setdefault((work, code), _Said())
        now = self._seconds()
        if said.at is not None and now - said.at < EVERY:
            said.more += 1
            return
        more, said.at, said.more = said.more, now, 0
        if code == "FULL":
            self._say(work, "too many commands wait for their replies", "it answers too slowly", more)
        elif code in KNOWN:
            self._say(work, describe(error), KNOWN[code].remedy, more)
        else:
            self._log.failure("{fails}{often}", failure, fails=work.fails, often=_often(more))

    def worked(self, work: Work) -> None:
        """It was done. Cheap where nothing is refused."""
        if not self._refused or work not in self._refused:
            return
        self._refused.discard(work)
        last, now = self._worked.get(work), self._seconds()
        if last is None or now - last >= EVERY:
            self._worked[work] = now
            self._log.info("{works} by {name}", works=work.works, name=self._name)

    def _say(self, work: Work, error: str, remedy: str, more: int) -> None:
        self._log.error(
            "{fails}{often}: {name} says {error!r} ({remedy})",
            fails=work.fails,
            often=_often(more),
            name=self._name,
            error=error,
            remedy=remedy,
        )


def _often(more: int) -> str:
    return f", {more} more since this was said last" if more else ""


@dataclass(slots=True)
class _Said:
    at: float | None = None
    more: int = 0
