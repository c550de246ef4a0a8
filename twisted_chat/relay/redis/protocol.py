"""One connection to Redis: commands and their replies in order, and a server that falls silent is noticed.

The commands are those of txredisapi's protocol. How they wait, how replies are read and what ends a connection is ours.
Importing this imports txredisapi, which installs the reactor: only what runs after one was chosen may.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, Final

import hiredis
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import BaseRedisProtocol, InvalidData, ResponseError

from twisted_chat.relay.redis.errors import LinkDownError, LinkFullError, LinkLostError, describe, error_code
from twisted_chat.relay.redis.limits import LinkLimits

CHANNELS: Final = 1_000
"""Channels of one SUBSCRIBE at most."""

Argument = bytes | str | int


class CommandProtocol(BaseRedisProtocol):  # type: ignore[misc]  # txredisapi ships no types
    """Replies are bytes, integers, lists and None; error replies fail the Deferred with `txredisapi.ResponseError`.

    lost
        fires with the reason, once, as soon as the connection is no good any more; nothing is sent after that
    closed
        fires when the transport is gone
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, limits: LinkLimits) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.lost: Final[Deferred[str]] = Deferred()
        self.closed: Final[Deferred[None]] = Deferred()
        self.usable = False
        self.is_replica = False
        """Whether the server was one, that can be read only, when this connection was made."""
        self._reactor = reactor
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._reader = hiredis.Reader(protocolError=InvalidData, replyError=ResponseError)
        self._heard = 0.0
        self._ticked = 0.0
        self._tick_call: IDelayedCall | None = None

    # Commands

    def execute_command(self, *args: Argument, **named: Any) -> Deferred[Any]:
        """Send it now. Fails with `LinkDownError` or `LinkFullError` when it was not sent, with `LinkLostError` when
        nobody knows whether it was executed.
        """
        if not self.usable:
            return fail(LinkDownError())
        return self._send(encode(args), 1, named.get("post_proc"))

    def _send(self, command: bytes, replies: int, process: Callable[[Any], Any] | None = None) -> Deferred[Any]:
        full = len(self._waiting) >= self._limits.commands
        if full or (self._waiting and self._waiting_bytes + len(command) > self._limits.command_bytes):
            return fail(LinkFullError())
        return self._write(command, replies, process)

    def _write(self, command: bytes, replies: int, process: Callable[[Any], Any] | None = None) -> Deferred[Any]:
        if not self._waiting:
            self._heard = self._reactor.seconds()  # it owes nothing yet
        done: Deferred[Any] = Deferred()
        self._waiting.append(_Waiting(done, len(command), replies))
        self._waiting_bytes += len(command)
        self.transport.write(command)
        return done.addCallback(process) if process is not None else done

    # Replies

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        self._heard = self._reactor.seconds()
        reader = self._reader
        try:
            reader.feed(data)
            while self.usable and (reply := reader.gets()) is not False:
                self.replyReceived(reply)
        except InvalidData as error:
            self.drop(f"what answers does not speak the protocol of Redis: {error}")

    def replyReceived(self, reply: Any) -> None:
        if not self._waiting:
            self.drop(f"a reply came that nobody waits for: {reply!r:.80}")
            return
        waiting = self._waiting.popleft()
        self._waiting_bytes -= waiting.size
        if not isinstance(reply, Exception):
            waiting.done.callback(reply)
            return
        if error_code(reply) == "READONLY" and not self.is_replica:
            # It was demoted, and will not tell again: whoever listens here hears nothing from now on.
            self._lose("it is a replica now")
        waiting.done.errback(reply)

    # Life and death

    def connectionMade(self) -> None:
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            enable = getattr(self.transport, option, None)  # TCP has them, also below TLS; a Unix socket has not
            if enable is not None:
                enable(True)
        self.usable = True
        self._heard = self._ticked = self._reactor.seconds()
        self._tick_later()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._lose(describe(reason.value) if reason is not None else "the connection was closed")
        self.closed.callback(None)

    def drop(self, reason: str) -> None:
        """Give the connection up."""
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        if not self.usable:
            return
        # First of all, so that whatever is called from here finds a dead link, and does not come back.
        self.usable = False
        self._stop_ticking()
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        self.transport.abortConnection()
        self.lost.callback(reason)
        for each in waiting:
            each.done.errback(LinkLostError(reason))

    def _tick_later(self) -> None:
        self._tick_call = self._reactor.callLater(self._limits.deadline / 5, self._tick)

    def _stop_ticking(self) -> None:
        if self._tick_call is not None and self._tick_call.active():
            self._tick_call.cancel()
        self._tick_call = None

    def _tick(self) -> None:
        now, deadline = self._reactor.seconds(), self._limits.deadline
        if now - self._ticked > deadline / 2:
            self._heard = now  # it is we who were not there; what has come meanwhile is not read yet
        self._ticked = now
        if self._waiting and now - self._heard > deadline:
            self._lose(f"no answer for {deadline:g} seconds")
            return
        if not self._waiting and now - self._heard >= deadline / 3:
            self._write(encode((b"PING",)), 1).addErrback(_ignore)
        self._tick_later()


class SubscriberProtocol(CommandProtocol):
    """The same for channels: `received` is called with the channel and the data of each message."""

    def __init__(self, reactor: IReactorTime, limits: LinkLimits, received: Callable[[bytes, bytes], None]) -> None:
        super().__init__(reactor, limits)
        self._received = received

    def subscribe(self, channels: Collection[bytes]) -> Deferred[None]:
        """Fires when the server has confirmed all of them."""
        return self._change(b"SUBSCRIBE", channels)

    def unsubscribe(self, channels: Collection[bytes]) -> Deferred[None]:
        return self._change(b"UNSUBSCRIBE", channels)

    def _change(self, verb: bytes, channels: Collection[bytes]) -> Deferred[None]:
        if not self.usable:
            return fail(LinkDownError())
        done: Deferred[None] = succeed(None)
        rest = iter(channels)
        while some := tuple(islice(rest, CHANNELS)):
            done.addErrback(_ignore)  # the connection is lost, which fails the last one too
            # Never refused: there are as many as there are rooms.
            done = self._write(encode((verb, *some)), len(some)).addErrback(self._refused)
        return done.addCallback(_nothing)

    def _refused(self, failure: Failure) -> Failure:
        self._lose(describe(failure.value))
        return failure

    def replyReceived(self, reply: Any) -> None:
        if not isinstance(reply, list) or not reply:
            super().replyReceived(reply)
        elif reply[0] == b"message":
            with self._log.failuresHandled("a message of channel {channel!r} failed", channel=reply[1]):
                self._received(reply[1], reply[2])
        elif reply[0] == b"pong":
            super().replyReceived(b"PONG")
        else:
            self._confirmed(reply)

    def _confirmed(self, reply: list[Any]) -> None:
        """One channel is subscribed to, or no longer: each of those in a command is confirmed on its own."""
        if self._waiting and self._waiting[0].replies > 1:
            self._waiting[0].replies -= 1
        else:
            super().replyReceived(reply)


class _Waiting:
    """A command that was sent: how many replies it still gets."""

    __slots__ = ("done", "replies", "size")

    def __init__(self, done: Deferred[Any], size: int, replies: int) -> None:
        self.done = done
        self.size = size
        self.replies = replies


def encode(args: Sequence[Argument]) -> bytes:
    """A command as it is sent. Raises for what is neither bytes, text nor an integer: that has no one text form."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        if not isinstance(arg, bytes):
            arg = b"%d" % arg if isinstance(arg, int) else arg.encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


def _ignore(_: Failure) -> None:
    """What it means is told to everyone who waits."""


def _nothing(_: object) -> None:
    """Instead of a reply."""
