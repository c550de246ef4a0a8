"""The scripts of the queue on a real Redis: each on its own, and a random crowd of nodes and workers that die."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.relay.redis_server import RedisServer
from twisted_chat.consumers.events import DISCONNECT, Event
from twisted_chat.consumers.redis import scripts
from twisted_chat.consumers.redis.aside import ALONE, ATTEMPTS, attempts_of
from twisted_chat.consumers.redis.names import ALL, QueueNames
from twisted_chat.relay.redis.scripts import Script

NAMES = QueueNames()
NODE = b"node"
MANY = 1 << 20
"""Bytes."""


class Queue:
    """The scripts, as nodes and workers call them."""

    def __init__(self, redis: RedisServer) -> None:
        self.redis = redis
        redis.command("FLUSHALL")
        redis.command("XGROUP", "CREATE", NAMES.ready, "workers", "0", "MKSTREAM")

    def call(self, script: Script, keys: list[bytes], *args: bytes | str | int) -> Any:
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in args]
        return self.redis.command("EVAL", script.text, str(len(keys)), *keys, *parts)

    def enqueue(self, name: bytes, first: int, *texts: str, last: bool = False, most: int = 1000) -> list[int]:
        """What came of the events; how many bytes wait is left out."""
        return self.enqueue_bytes(name, first, *texts, last=last, most=most)[:3]

    def enqueue_bytes(
        self,
        name: bytes,
        first: int,
        *texts: str,
        last: bool = False,
        most: int = 1000,
        here: int = MANY,
        all_: int = MANY,
    ) -> list[int]:
        events = [event(name, first + index, text).encode() for index, text in enumerate(texts)]
        keys = [NAMES.connections_key(NODE), NAMES.mailbox_key(name), NAMES.ready, NAMES.waiting, NAMES.bytes]
        reply: list[int] = self.call(
            scripts.ENQUEUE, keys, name, "/the path", first, most, all_, here, int(last), *events
        )
        return reply

    def take(self, worker: str, count: int = 1) -> list[tuple[bytes, bytes]]:
        """(token, mailbox) of new tokens."""
        reply = self.redis.command(
            "XREADGROUP", "GROUP", "workers", worker, "COUNT", str(count), "STREAMS", NAMES.ready, ">"
        )
        return [(token, fields[1]) for token, fields in (reply[0][1] if reply else ())]

    def claim(self, worker: str) -> list[tuple[bytes, bytes]]:
        """All tokens that anybody holds."""
        keys = [NAMES.ready, NAMES.attempts]
        entries = self.call(scripts.CLAIM, keys, worker, 0, 100, NAMES.mailbox, ALONE)
        return [(token, fields[1]) for token, fields in entries]

    def attempts(self, name: bytes) -> int:
        """How many workers died of the first event of a mailbox."""
        first, attempts = self.redis.commands(("LINDEX", NAMES.mailbox_key(name), "0"), ("HGET", NAMES.attempts, name))
        return attempts_of(first or b"", attempts)

    def begin(self, worker: str, token: bytes, name: bytes) -> int:
        keys = [NAMES.ready, NAMES.attempts, NAMES.mailbox_key(name)]
        reply: int = self.call(scripts.BEGIN, keys, token, worker, name)
        return reply

    def give_back(self, worker: str, token: bytes, name: bytes) -> None:
        self.call(scripts.RELEASE, [NAMES.ready, NAMES.attempts], worker, NAMES.mailbox, token, name)

    def keep(self, worker: str, *tokens: tuple[bytes, bytes]) -> list[bytes]:
        pairs = [part for pair in tokens for part in pair]
        reply: list[bytes] = self.call(scripts.KEEP, [NAMES.ready, NAMES.attempts], worker, NAMES.mailbox, *pairs)
        return reply

    def set_aside(self, worker: str, token: bytes, name: bytes, most: int = 1000, all_: int = MANY) -> int:
        mailbox, session = NAMES.mailbox_key(name), NAMES.session_key(name)
        keys = [NAMES.ready, NAMES.attempts, mailbox, session, NAMES.aside, NAMES.aside_amounts]
        reply: int = self.call(scripts.ASIDE, keys, token, worker, name, most, all_)
        return reply

    def aside(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        entries = self.redis.command("XRANGE", NAMES.aside, "-", "+")
        return [(name, dict(zip(fields[::2], fields[1::2], strict=True))) for name, fields in entries]

    def back(self, name: bytes, mailbox: bytes, own: bytes, *, replay: bool = True, behind: bool = True) -> int:
        keys = [
            *(NAMES.aside, NAMES.aside_amounts, NAMES.connections_key(NODE)),
            *(NAMES.mailbox_key(mailbox), NAMES.mailbox_key(own), NAMES.session_key(own)),
            *(NAMES.ready, NAMES.waiting, NAMES.bytes),
        ]
        reply: int = self.call(scripts.BACK, keys, name, own, int(replay), int(behind))
        return reply

    def first(self, name: bytes) -> Event | None:
        data = self.redis.command("LINDEX", NAMES.mailbox_key(name), "0")
        return Event.decode(data) if data is not None else None

    def commit(
        self, worker: str, token: bytes, name: bytes, done: Event, *, session: str = "", over: bool = False, go_on: bool
    ) -> list[Any]:
        keys = [
            NAMES.ready,
            NAMES.mailbox_key(name),
            NAMES.session_key(name),
            NAMES.waiting,
            NAMES.connections_key(NODE),
            NAMES.bytes,
            NAMES.attempts,
        ]
        reply: list[Any] = self.call(
            scripts.COMMIT, keys, token, worker, name, done.encode_id(), session, int(over), int(go_on)
        )
        return reply

    def post(self, name: bytes, behind: bytes, most: int = 1000, all_: int = MANY) -> int:
        own = NAMES.mailbox_key(name)
        keys = [
            NAMES.posted_key(name),
            NAMES.connections_key(NODE),
            NAMES.mailbox_key(behind),
            own,
            NAMES.ready,
            NAMES.waiting,
            NAMES.bytes,
        ]
        data = event(name, 0, "posted").encode()
        reply: int = self.call(scripts.POST, keys, behind, name, data, most, all_, 10_000)
        return reply

    def delay(self, name: bytes, ms: int, most: int = 1000, all_: int = MANY) -> int:
        """Negative `ms`: its time has come already."""
        keys = [NAMES.posted_key(name), NAMES.delayed, NAMES.delayed_bytes]
        data = event(name, 0, "delayed").encode()
        reply: int = self.call(scripts.DELAY, keys, name, data, ms, most, all_, 600_000)
        return reply

    def due(self, at_once: int = 100, most: int = 1000, all_: int = MANY) -> list[int]:
        keys = [NAMES.delayed, NAMES.ready, NAMES.waiting, NAMES.bytes, NAMES.delayed_bytes]
        reply: list[int] = self.call(scripts.DUE, keys, NAMES.mailbox, at_once, most, all_)
        return reply

    def bury(self, most: int = 100) -> int:
        reply: int = self.call(
            scripts.BURY,
            [NAMES.nodes, NAMES.connections_key(NODE), NAMES.ready, NAMES.waiting, NAMES.bytes],
            NODE,
            NAMES.mailbox,
            most,
        )
        return reply

    def counted(self) -> dict[bytes, int]:
        """How many are counted, of all and of each mailbox."""
        pairs = self.redis.command("HGETALL", NAMES.bytes)
        return {name: int(number) for name, number in zip(pairs[::2], pairs[1::2], strict=True)}

    def tokens(self) -> list[bytes]:
        """The mailboxes that have one, held or not."""
        return sorted(fields[1] for _, fields in self.redis.command("XRANGE", NAMES.ready, "-", "+"))

    def mailboxes(self) -> dict[bytes, int]:
        keys = self.redis.command("KEYS", NAMES.mailbox + b"*")
        return {key.removeprefix(NAMES.mailbox): self.redis.command("LLEN", key) for key in keys}

    def check(self) -> None:
        """What always holds."""
        mailboxes = self.mailboxes()
        assert self.tokens() == sorted(mailboxes), "a mailbox has one token if and only if it is not empty"
        assert int(self.redis.command("GET", NAMES.waiting) or 0) == sum(mailboxes.values())
        waiting = {
            name: sum(map(len, self.redis.command("LRANGE", NAMES.mailbox_key(name), "0", "-1"))) for name in mailboxes
        }
        assert self.counted() == ({**waiting, ALL: sum(waiting.values())} if waiting else {})
        assert set(self.redis.command("HKEYS", NAMES.attempts)) <= waiting.keys()
        aside = [len(fields[b"e"]) + len(fields[b"s"]) for _, fields in self.aside()]
        amounts = [int(number or 0) for number in self.redis.command("HMGET", NAMES.aside_amounts, "count", "bytes")]
        assert amounts == [len(aside), sum(aside)]
        delayed = self.redis.command("ZRANGE", NAMES.delayed, "0", "-1")
        assert int(self.redis.command("GET", NAMES.delayed_bytes) or 0) == sum(map(len, delayed))


def event(name: bytes, order: int, text: str) -> Event:
    return Event(f"{name.decode()}.{order}", text, {"order": order})


@pytest.fixture
def queue(shared_redis: RedisServer) -> Iterator[Queue]:
    made = Queue(shared_redis)
    yield made
    made.check()


def test_events_are_taken_once_and_in_order(queue: Queue) -> None:
    assert queue.enqueue(b"a", 0, "zero") == [1, 1, 1]
    assert queue.enqueue(b"a", 0, "zero", "one") == [2, 2, 2]
    assert queue.enqueue(b"a", 0, "zero", "one") == [2, 2, 2]
    assert queue.enqueue(b"a", 3, "three") == [0, 2, 2], "there is one missing"
    assert queue.tokens() == [b"a"]


def test_nothing_is_taken_of_what_is_not_known(queue: Queue) -> None:
    assert queue.enqueue(b"a", 1, "one") == [-1, 0, 0]
    queue.enqueue(b"a", 0, "zero", "bye", last=True)
    assert queue.enqueue(b"a", 2, "two")[0] == -1


def test_a_full_queue_takes_nothing_but_a_disconnect(queue: Queue) -> None:
    assert queue.enqueue(b"a", 0, "zero", "one", "two", most=2) == [2, 2, 2]
    assert queue.enqueue(b"b", 0, "zero", most=2) == [0, 0, 2]
    assert queue.enqueue(b"a", 2, "bye", last=True, most=2) == [1, 3, 3]


def test_so_many_bytes_of_one_connection_are_taken(queue: Queue) -> None:
    size = len(event(b"a", 0, "0123").encode())
    # Where half is done, one of any size is taken; behind it, what fits.
    taken = queue.enqueue_bytes(b"a", 0, "0123", "4567", "89ab", here=2 * size)
    assert taken == [2, 2, 2, 2 * size, 2 * size]
    assert queue.enqueue_bytes(b"a", 2, "89ab", here=2 * size)[0] == 0
    assert queue.enqueue_bytes(b"b", 0, "0123" * 100, here=2 * size)[0] == 1, "others have a room of their own"
    [(token, name), _] = queue.take("w", 2)
    queue.commit("w", token, name, event(b"a", 0, ""), go_on=False)
    assert queue.enqueue_bytes(b"a", 2, "89ab" * 100, here=2 * size)[0] == 1


def test_so_many_bytes_are_taken_in_all(queue: Queue) -> None:
    size = len(event(b"a", 0, "0123").encode())
    assert queue.enqueue_bytes(b"a", 0, "0123", "4567", all_=size + 1)[0] == 2
    assert queue.enqueue_bytes(b"b", 0, "0123", all_=size + 1)[0] == 0
    assert queue.post(b"x", b"", all_=size + 1) == 0
    assert queue.enqueue_bytes(b"a", 2, DISCONNECT, last=True, all_=size + 1)[0] == 1
    assert queue.delay(b"x", -1, all_=1) == 1
    assert queue.delay(b"y", -1, all_=1) == 0
    assert queue.due(all_=size + 1)[0] == 0
    assert queue.due(all_=MANY)[0] == 1


def test_bytes_that_an_earlier_version_did_not_count_are_not_missed(queue: Queue) -> None:
    """Workers of an earlier version take events out, and nodes of one put some in, without a word about bytes."""
    queue.enqueue(b"a", 0, "zero", "one")
    queue.enqueue(b"b", 0, "zero")
    for name in (b"a", b"a"):
        queue.redis.command("LPOP", NAMES.mailbox_key(name))
        queue.redis.command("DECR", NAMES.waiting)
    for token, name in queue.take("old", 1):
        queue.redis.commands(("XACK", NAMES.ready, "workers", token), ("XDEL", NAMES.ready, token))
        assert name == b"a"
    size = len(event(b"a", 2, "two").encode())
    # The mailbox is empty, so what was counted of it is not there.
    assert queue.enqueue_bytes(b"a", 2, "two", here=size)[:1] == [1]
    queue.check()
    queue.redis.command("RPUSH", NAMES.mailbox_key(b"b"), event(b"b", 1, "one").encode())
    queue.redis.command("INCR", NAMES.waiting)
    for token, name in queue.take("w", 2):
        first = queue.first(name)
        while first is not None:
            queue.commit("w", token, name, first, go_on=True)
            first = queue.first(name)
    assert queue.counted() == {}


def test_a_commit_goes_on_with_the_next_event(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [(token, name)] = queue.take("w")
    reply = queue.commit("w", token, name, event(b"a", 0, ""), session='{"a":1}', go_on=True)
    assert (reply[0], Event.decode(reply[1]).id, reply[2]) == (1, "a.1", b'{"a":1}')
    assert queue.commit("w", token, name, event(b"a", 1, ""), go_on=True) == [0]
    assert queue.tokens() == []
    assert queue.redis.command("GET", NAMES.session_key(b"a")) == b'{"a":1}'


def test_a_commit_that_does_not_go_on_puts_the_mailbox_behind_the_others(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    queue.enqueue(b"b", 0, "zero")
    [(token, name)] = queue.take("w")
    assert queue.commit("w", token, name, event(b"a", 0, ""), go_on=False) == [0]
    assert [name for _, name in queue.take("w", 5)] == [b"b", b"a"]


def test_a_commit_said_twice_is_done_once(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [(token, name)] = queue.take("w")
    once = queue.commit("w", token, name, event(b"a", 0, ""), go_on=True)
    assert queue.commit("w", token, name, event(b"a", 0, ""), go_on=True) == once


def test_who_does_not_hold_the_token_commits_nothing(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [(token, name)] = queue.take("slow")
    assert queue.claim("other") == [(token, name)]
    assert queue.commit("slow", token, name, event(b"a", 0, ""), session="x", go_on=True) == [-1]
    assert queue.first(b"a") == event(b"a", 0, "zero")
    assert queue.redis.command("GET", NAMES.session_key(b"a")) is None


def test_the_last_event_takes_everything_with_it(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    queue.redis.command("SET", NAMES.session_key(b"a"), "x")
    [(token, name)] = queue.take("w")
    assert queue.commit("w", token, name, event(b"a", 0, ""), over=True, go_on=True) == [0]
    assert queue.redis.command("KEYS", "twisted_chat:consumers:[cms]*") == []


def test_what_is_posted_comes_once_and_behind_a_connection_that_lives(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    assert [queue.post(b"x", b"a"), queue.post(b"x", b"a"), queue.post(b"y", b"gone"), queue.post(b"z", b"")] == [1] * 4
    assert queue.mailboxes() == {b"a": 2, b"y": 1, b"z": 1}
    assert queue.post(b"full", b"", most=4) == 0


def test_what_is_posted_comes_before_the_end_of_a_connection(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", '","websocket.disconnect",', DISCONNECT, last=True)
    assert [queue.post(b"x", b"a"), queue.post(b"x", b"a"), queue.post(b"y", b"a")] == [1, 1, 1]
    waiting = queue.redis.command("LRANGE", NAMES.mailbox_key(b"a"), "0", "-1")
    assert [Event.decode(data).id for data in waiting] == ["a.0", "a.1", "x.0", "y.0", "a.2"]
    queue.check()
    # The end has begun, or has no event before it that could have posted anything.
    queue.enqueue(b"b", 0, DISCONNECT, last=True)
    queue.post(b"z", b"b")
    assert queue.mailboxes() == {b"a": 5, b"b": 1, b"z": 1}


def test_what_is_posted_does_not_take_another_event_for_the_end(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", '","websocket.disconnect",', last=True)
    queue.post(b"x", b"a")
    assert queue.mailboxes() == {b"a": 2, b"x": 1}


def test_tokens_that_are_given_back(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    [(token, name)] = queue.take("w")
    queue.give_back("other", token, name)
    assert queue.take("w2") == []
    queue.give_back("w", token, name)
    assert [name for _, name in queue.take("w2")] == [b"a"]


def test_keeping_tokens(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    queue.enqueue(b"b", 0, "zero")
    first, second = queue.take("w", 2)
    queue.redis.command("XCLAIM", NAMES.ready, "workers", "other", "0", second[0])
    assert queue.keep("w", first, second) == [second[0]]


def test_forgetting_workers(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    queue.take("busy")
    for worker in ("ends", "idle"):
        queue.take(worker)

    def workers() -> set[bytes]:
        return {fields[1] for fields in queue.redis.command("XINFO", "CONSUMERS", NAMES.ready, "workers")}

    queue.call(scripts.FORGET, [NAMES.ready], "ends", 60_000)
    assert workers() >= {b"busy"}
    assert b"ends" not in workers()
    queue.call(scripts.FORGET, [NAMES.ready], "busy", -1)
    assert workers() == {b"busy"}, "it holds a token"


def test_the_connections_of_a_dead_node_are_disconnected(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    queue.enqueue(b"b", 0, "zero")
    assert queue.bury(1) == 1
    assert queue.bury() == 1
    assert queue.bury() == 0
    assert queue.mailboxes() == {b"a": 3, b"b": 2}
    last = Event.decode(queue.redis.command("LINDEX", NAMES.mailbox_key(b"a"), "-1"))
    content = {"path": "/the path", "code": 1006, "reply_channel": "websocket.send!a", "order": 2}
    assert last == Event("a.2", "websocket.disconnect", content)
    assert queue.enqueue(b"a", 2, "two")[0] == -1, "nothing comes after it"


def test_a_node_that_lives_is_not_buried(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    queue.redis.command("ZADD", NAMES.nodes, "9999999999999", NODE)
    assert queue.bury() == -1


def test_without_memory_nothing_is_half_done(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [(token, name)] = queue.take("w")
    queue.redis.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(Exception, match="OOM"):
            queue.enqueue(b"a", 2, "two")
        with pytest.raises(Exception, match="OOM"):
            queue.commit("w", token, name, event(b"a", 0, ""), session="x", go_on=False)
        queue.check()
        # What frees memory is let through, and whatever comes with it.
        assert queue.commit("w", token, name, event(b"a", 0, ""), go_on=False) == [0]
    finally:
        queue.redis.command("CONFIG", "SET", "maxmemory", "0")


def test_what_is_delayed_comes_once_when_its_time_has_come(queue: Queue) -> None:
    assert queue.due() == [0, -1]
    hour = 3_600_000
    assert [queue.delay(b"x", hour), queue.delay(b"y", -1), queue.delay(b"y", -1), queue.delay(b"z", -hour)] == [1] * 4
    assert queue.mailboxes() == {}
    assert queue.due(1) == [1, 0]
    assert queue.mailboxes() == {b"z": 1}, "the oldest"
    count, wait = queue.due()
    assert count == 1
    assert 0 < wait <= hour
    assert queue.due()[0] == 0
    assert queue.mailboxes() == {b"y": 1, b"z": 1}
    assert queue.first(b"y") == event(b"y", 0, "delayed")
    assert queue.redis.command("ZCARD", NAMES.delayed) == 1


def test_what_is_delayed_is_bounded_and_waits_for_room(queue: Queue) -> None:
    assert [queue.delay(name, -1, most=2) for name in (b"x", b"y", b"z")] == [1, 1, 0]
    assert queue.due(most=1) == [1, 0]
    assert queue.due(most=1) == [0, 0]
    assert queue.due(most=2) == [1, -1]


def test_without_memory_what_is_delayed_stays(queue: Queue) -> None:
    queue.delay(b"x", -1)
    queue.redis.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(Exception, match="OOM"):
            queue.due()
        with pytest.raises(Exception, match="OOM"):
            queue.delay(b"y", -1)
    finally:
        queue.redis.command("CONFIG", "SET", "maxmemory", "0")
    assert queue.mailboxes() == {}
    assert queue.due() == [1, -1]


def test_a_mailbox_of_its_own_leaves_no_session(queue: Queue) -> None:
    queue.post(b"x", b"")
    [(token, name)] = queue.take("w")
    assert queue.commit("w", token, name, event(b"x", 0, ""), session='{"a":1}', over=True, go_on=True) == [0]
    assert queue.redis.command("KEYS", "twisted_chat:consumers:[cms]*") == []


def test_workers_that_die_are_counted_against_what_they_held(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [(token, name)] = queue.take("first")
    assert queue.attempts(b"a") == 0
    for times in range(1, ALONE + 1):
        assert queue.claim(f"worker-{times}") == [(token, name)]
        assert queue.attempts(b"a") == times
    queue.claim("one that did not begin")
    queue.claim("another")
    assert queue.attempts(b"a") == ALONE, "from here on, who had not begun did not die of it"
    assert queue.begin("elsewhere", token, name) == 0
    assert [queue.begin("another", token, name) for _ in range(2)] == [1, 1]
    queue.claim("the last")
    queue.claim("the very last")
    assert queue.attempts(b"a") == ALONE + 1 == ATTEMPTS
    queue.commit("the very last", token, name, event(b"a", 0, ""), go_on=True)
    assert queue.attempts(b"a") == 0, "the next one has done nothing"
    assert queue.redis.command("EXISTS", NAMES.attempts) == 0


def test_who_gives_an_event_back_did_not_die_of_it(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero")
    [(token, name)] = queue.take("w")
    for _ in range(ALONE):
        queue.claim("w")
    queue.begin("w", token, name)
    queue.give_back("w", token, name)
    [(token, name)] = queue.take("other")
    queue.claim("another")
    assert queue.attempts(b"a") == ALONE


def test_who_was_taken_for_dead_and_lives_did_not_die_of_it(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    [token] = queue.take("w")
    queue.claim("other")
    assert queue.keep("w", token) == [token[0]]
    assert queue.attempts(b"a") == 0
    for _ in range(ALONE):
        queue.claim("w")
    queue.begin("w", *token)
    queue.claim("other")
    assert queue.attempts(b"a") == ATTEMPTS
    queue.keep("w", token)
    assert queue.attempts(b"a") == ALONE
    queue.commit("other", *token, event(b"a", 0, ""), go_on=True)
    queue.keep("w", token)
    assert queue.attempts(b"a") == 0


def test_attempts_of_an_event_that_an_earlier_version_took_out_are_not_those_of_the_next(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one", "two")
    queue.take("w")
    for _ in range(ALONE):
        queue.claim("w")
    gone = queue.redis.command("LPOP", NAMES.mailbox_key(b"a"))
    queue.redis.commands(
        ("DECR", NAMES.waiting),
        ("HINCRBY", NAMES.bytes, b"a", str(-len(gone))),
        ("HINCRBY", NAMES.bytes, ALL, str(-len(gone))),
    )
    assert queue.attempts(b"a") == 0
    queue.claim("w")
    assert queue.attempts(b"a") == 1


def test_setting_aside(queue: Queue) -> None:
    queue.enqueue(b"a", 0, "zero", "one")
    queue.redis.command("SET", NAMES.session_key(b"a"), '{"a":1}')
    [(token, name)] = queue.take("w")
    queue.claim("w")
    assert queue.set_aside("other", token, name) == -1
    # Its worker may die before it is taken away; the next one sets it aside again.
    assert [queue.set_aside("w", token, name) for _ in range(2)] == [0, 0]
    [(_, fields)] = queue.aside()
    assert fields == {b"m": b"a", b"e": event(b"a", 0, "zero").encode(), b"s": b'{"a":1}', b"n": b"1"}
    assert queue.commit("w", token, name, event(b"a", 0, ""), go_on=True)[0] == 1
    assert queue.set_aside("w", token, name) == 0
    assert [fields[b"e"] for _, fields in queue.aside()] == [
        event(b"a", n, t).encode() for n, t in ((0, "zero"), (1, "one"))
    ]


@pytest.mark.parametrize("bound", ["count", "bytes"])
def test_so_much_is_kept_aside(queue: Queue, bound: str) -> None:
    size = len(event(b"a", 0, "x").encode())
    gone = []
    for number in range(4):
        queue.enqueue(b"a", number, "x")
        [(token, name)] = queue.take("w")
        limits = (2, MANY) if bound == "count" else (1000, 2 * size)
        gone.append(queue.set_aside("w", token, name, *limits))
        queue.commit("w", token, name, event(b"a", number, ""), go_on=True)
    assert gone == [0, 0, 1, 1]
    assert [Event.decode(fields[b"e"]).id for _, fields in queue.aside()] == ["a.2", "a.3"]
    queue.enqueue(b"a", 4, "x" * 1000)
    [(token, name)] = queue.take("w")
    assert queue.set_aside("w", token, name, 1000, size) == 2, "the newest is kept, however large"


def aside_of(queue: Queue, *texts: str, session: str = "") -> bytes:
    """The first of these events of connection a is set aside; its name in the list."""
    queue.enqueue(b"a", 0, *texts)
    if session:
        queue.redis.command("SET", NAMES.session_key(b"a"), session)
    [(token, name)] = queue.take("w")
    queue.set_aside("w", token, name)
    queue.commit("w", token, name, event(b"a", 0, ""), go_on=False)
    [(found, _)] = queue.aside()
    return found


def test_back_behind_the_events_of_a_connection_that_lives(queue: Queue) -> None:
    found = aside_of(queue, "zero", "one", session="x")
    assert queue.back(found, b"a", b"a.0") == 1
    assert queue.aside() == []
    waiting = queue.redis.command("LRANGE", NAMES.mailbox_key(b"a"), "0", "-1")
    assert [Event.decode(data).id for data in waiting] == ["a.1", "a.0"]
    assert queue.back(found, b"a", b"a.0") == 0


@pytest.mark.parametrize("gone", [True, False], ids=["its connection is gone", "it has a place of its own"])
def test_back_into_a_mailbox_of_its_own(queue: Queue, gone: bool) -> None:
    found = aside_of(queue, "zero", session='{"a":1}')
    if gone:
        queue.redis.command("HDEL", NAMES.connections_key(NODE), "a")
    assert queue.back(found, b"a", b"a.0", behind=gone) == 1
    assert queue.mailboxes() == {b"a.0": 1}
    assert queue.redis.command("GET", NAMES.session_key(b"a.0")) == b'{"a":1}'
    [(token, name)] = queue.take("w")
    assert queue.commit("w", token, name, event(b"a", 0, ""), over=True, go_on=True) == [0]
    assert queue.redis.command("EXISTS", NAMES.session_key(b"a.0")) == 0


def test_dropping_what_is_aside(queue: Queue) -> None:
    found = aside_of(queue, "zero")
    assert queue.back(found, b"a", b"a.0", replay=False) == 1
    assert queue.back(found, b"a", b"a.0", replay=False) == 0
    assert queue.mailboxes() == {}
    assert queue.redis.command("EXISTS", NAMES.aside_amounts) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_crowd(queue: Queue, seed: int) -> None:
    """Whatever workers do, or die of: each event is finished once, in order, and run at least once before that."""
    chance = random.Random(seed)
    names = [b"c%d" % number for number in range(4)]
    sent: dict[bytes, int] = defaultdict(int)
    finished: dict[bytes, list[int]] = defaultdict(list)
    held: list[tuple[str, bytes, bytes, Event | None]] = []
    for _ in range(250):
        name = chance.choice(names)
        worker = chance.choice("uvw")
        match chance.choice("eettrrrcx"):
            case "e":
                count = chance.randint(1, 3)
                again = min(sent[name], chance.randint(0, 1))  # an answer was lost
                first = sent[name] - again
                assert queue.enqueue(name, first, *["x"] * (count + again))[0] == count + again
                sent[name] += count
            case "t":
                for token, mailbox in queue.take(worker, 2):
                    held.append((worker, token, mailbox, queue.first(mailbox)))
            case "r" if held:
                # It runs, and then commits, perhaps long after others took it for dead.
                worker, token, mailbox, running = held.pop(chance.randrange(len(held)))
                assert running is not None
                before = queue.first(mailbox)
                reply = queue.commit(worker, token, mailbox, running, go_on=chance.random() < 0.5)
                if reply[0] >= 0 and before == running:
                    finished[mailbox].append(running.content["order"])
                if reply[0] == 1:
                    held.append((worker, token, mailbox, Event.decode(reply[1])))
            case "c":
                held += [(worker, token, mailbox, queue.first(mailbox)) for token, mailbox in queue.claim(worker)]
            case "x":
                held = [each for each in held if each[0] != worker]  # it died
        queue.check()
    while left := queue.claim("last") + queue.take("last", 10):
        for token, mailbox in left:
            running = queue.first(mailbox)
            assert running is not None
            queue.commit("last", token, mailbox, running, go_on=False)
            finished[mailbox].append(running.content["order"])
    assert {name: list(range(count)) for name, count in sent.items() if count} == finished
