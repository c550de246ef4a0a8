"""The life of a node on its link to the queue, with time by hand; with a real Redis: ``test_kills.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from twisted_chat.consumers.redis.node import PATIENCE, NodeQueue
from twisted_chat.relay.redis.presence import BEAT
from twisted_chat.relay.redis.scripts import HEARTBEAT
from twisted_chat.relay.redis.url import parse_url


class Redis(StringTransport):
    """The other end of a link: all is well there, and nobody is dead."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.heartbeats = 0
        self._protocol = protocol
        protocol.makeConnection(self)

    def answer(self) -> None:
        """What was asked until now, and what is asked because of the answers."""
        reader = hiredis.Reader()
        while data := self.value():
            self.clear()
            reader.feed(data)
            while (command := reader.gets()) is not False:
                self._protocol.dataReceived(self._reply(command))

    def _reply(self, command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA" and command[1] == HEARTBEAT.sha:
            self.heartbeats += 1
            return b"*3\r\n:1\r\n*0\r\n*2\r\n$1\r\n1\r\n$1\r\n0\r\n"
        return {b"PING": b"+PONG\r\n", b"INFO": b"$0\r\n\r\n"}.get(command[0], b"+OK\r\n")

    def abortConnection(self) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self._protocol.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def reactor() -> Any:
    return MemoryReactorClock()


@pytest.fixture
def queue(reactor: Any) -> Iterator[NodeQueue]:
    queue = NodeQueue(reactor, parse_url("redis+unix:///redis.sock"), "node")
    yield queue
    # What waits for ever would be ended by the collector, in the middle of another test.
    stopped = Deferred.fromCoroutine(queue.stop(clean=False))
    reactor.advance(0)
    assert stopped.called
    assert reactor.getDelayedCalls() == []


def started(queue: NodeQueue) -> list[None]:
    """Is not empty when it has."""
    done: list[None] = []
    queue.start().addCallback(done.append)
    return done


def connected(reactor: Any) -> Redis:
    """The attempt to connect that is under way succeeds."""
    _, factory, *_ = reactor.unixClients[-1]
    redis = Redis(factory.buildProtocol(None))
    redis.answer()
    return redis


def later(reactor: Any, redis: Redis, seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        reactor.advance(0.5)
        redis.answer()


@pytest.mark.parametrize("late", [0.0, PATIENCE + 1], ids=["in time", "later"])
def test_it_lives_as_soon_as_there_is_redis(reactor: Any, queue: NodeQueue, late: float) -> None:
    done = started(queue)
    reactor.advance(late)
    assert bool(done) == bool(late)
    redis = connected(reactor)
    assert done
    before = redis.heartbeats
    later(reactor, redis, 4 * BEAT)
    assert redis.heartbeats - before >= 4


def test_one_that_is_stopped_while_it_starts_leaves_nothing(reactor: Any, queue: NodeQueue) -> None:
    done = started(queue)
    stopped = Deferred.fromCoroutine(queue.stop(clean=True))
    reactor.advance(0)
    assert (stopped.called, done) == (True, [None])
    assert reactor.getDelayedCalls() == []
