"""Publications and questions as scripts, against a list that keeps everything and the answers of the other relays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.relay.redis_server import RedisServer
from twisted_chat.core.publication import (
    Before,
    History,
    Newest,
    Position,
    Proof,
    Publication,
    Published,
    Question,
    Since,
    continues,
)
from twisted_chat.relay.answer import answer
from twisted_chat.relay.interface import HistoryLimits
from twisted_chat.relay.redis.names import Names
from twisted_chat.relay.redis.publications import EMPTY_ROOM_SECONDS, Storage, parse
from twisted_chat.relay.redis.scripts import Call

NAMES = Names()

LIMITS = st.integers(0, 8)


def run(server: RedisServer, *calls: Call) -> list[Any]:
    """Without a relay: what the script answers."""
    commands: list[tuple[str | bytes, ...]] = []
    for script, keys, args in calls:
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in (len(keys), *keys, *args)]
        commands.append(("EVAL", script.text, *parts))
    replies = server.commands(*commands)
    for reply in replies:
        assert not isinstance(reply, Exception), reply
    return replies


@dataclass(frozen=True)
class Asked:
    """A question whose position is the one of the publication `back` from the newest, or nearly so."""

    kind: type[Since | Before] | None
    limit: int
    back: int
    shift: tuple[int, int]

    def question(self, known: Sequence[Position]) -> Question:
        if self.kind is None:
            return Newest(self.limit)
        at = known[-1 - self.back % len(known)]
        return self.kind(
            Position(at.epoch, max(at.offset + self.shift[0], 0), max(at.tag + self.shift[1], 0)), self.limit
        )


QUESTIONS = st.builds(
    Asked,
    st.sampled_from([None, Since, Before]),
    LIMITS,
    st.integers(0, 12),
    st.sampled_from([(0, 0)] * 4 + [(1, 0), (-1, 0), (0, 1), (0, -1), (2, 5)]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    count=st.sampled_from([0, 1, 3, 1_000]),
    steps=st.lists(
        st.tuples(
            st.lists(st.tuples(st.binary(max_size=4), st.sampled_from([None, None, "k", "l"])), max_size=4),
            st.lists(QUESTIONS, max_size=4),
        ),
        max_size=5,
    ),
)
def test_it_answers_as_the_other_relays_do(
    redis_server: RedisServer,
    count: int,
    steps: list[tuple[list[tuple[bytes, str | None]], list[Asked]]],
) -> None:
    room = str(uuid4())
    storage = Storage(Names(), HistoryLimits(count=count, age=3_600.0))
    [reply] = run(redis_server, storage.ask(room, Newest(0)))
    top = empty = storage.answer(Newest(0), reply).top
    # The server is younger than the history may be.
    oldest = Position(empty.epoch, 0, int(redis_server.command("HGET", NAMES.store_key, "t")))
    kept: list[Publication] = []
    keys: dict[str, Publication] = {}
    known = [top]
    for drafts, asked in steps:
        for data, key in drafts:
            [(duplicate, text)] = run(redis_server, storage.publish(room, data, key))
            stored = parse(text)
            if key is not None and key in keys:
                assert Published(stored, duplicate=bool(duplicate)) == Published(keys[key], duplicate=True)
                continue
            assert not duplicate
            stored = Publication(stored.position, stored.previous, data)
            assert continues(top, stored)
            assert stored.previous < stored.position.tag
            top = stored.position
            kept.append(stored)
            known.append(top)
            if key is not None:
                keys[key] = stored
        questions = [each.question(known) for each in asked]
        calls = [storage.ask(room, question) for question in questions]
        for question, reply in zip(questions, run(redis_server, *calls) if calls else [], strict=True):
            assert storage.answer(question, reply) == expected(question, top, kept, count, oldest)


def expected(
    question: Question, top: Position, published: Sequence[Publication], count: int, oldest: Position
) -> History:
    kept = published[-count:] if count else []
    return answer(
        question, top, lambda first, last: [one for one in kept if first <= one.position.offset <= last], oldest
    )


# Names and lives


@pytest.fixture
def storage() -> Storage:
    return Storage(Names(), HistoryLimits(count=100, age=1_000.0))


def lives(server: RedisServer, key: bytes) -> float:
    return int(server.command("PTTL", key)) / 1000


def test_all_keys_of_a_room_have_its_name_as_hash_tag(redis_server: RedisServer, storage: Storage) -> None:
    room = f"a/b {{c}} ä {uuid4()}"
    run(redis_server, storage.publish(room, b"x", "any {key}"))
    tag = b"{a%2Fb%20%7Bc%7D%20%C3%A4%20" + room[-36:].encode() + b"}"
    keys = redis_server.command("KEYS", b"*" + room[-36:].encode() + b"*")
    assert set(keys) == {
        b"twisted_chat:" + tag + b":position",
        b"twisted_chat:" + tag + b":stream",
        b"twisted_chat:" + tag + b":key:any {key}",
    }
    assert set(keys) == {NAMES.position_key(room), NAMES.stream_key(room), NAMES.idempotency_key(room, "any {key}")}
    assert Names(3).channel(room) == b"twisted_chat:3:" + tag


def test_what_is_kept_lives_as_long_as_it_may_be_asked_for(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    run(redis_server, storage.publish(room, b"x", "key"))
    assert 990 < lives(redis_server, NAMES.stream_key(room)) <= 1_000
    assert 990 < lives(redis_server, NAMES.position_key(room)) <= 1_000
    assert 290 < lives(redis_server, NAMES.idempotency_key(room, "key")) <= 300


def test_a_position_outlives_a_short_history(redis_server: RedisServer) -> None:
    room = str(uuid4())
    run(redis_server, Storage(Names(), HistoryLimits(count=10, age=10.0)).publish(room, b"x", None))
    assert lives(redis_server, NAMES.stream_key(room)) <= 10
    assert 290 < lives(redis_server, NAMES.position_key(room)) <= 300


def test_what_is_kept_for_ever_does_not_expire(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    for each in (storage, Storage(Names(), HistoryLimits(count=10, age=0.0))):
        run(redis_server, each.publish(room, b"x", None))
    assert redis_server.command("PTTL", NAMES.stream_key(room)) == -1
    assert redis_server.command("PTTL", NAMES.position_key(room)) == -1


def ask(server: RedisServer, storage: Storage, room: str, question: Question) -> History:
    [reply] = run(server, storage.ask(room, question))
    return storage.answer(question, reply)


def test_a_room_that_is_only_looked_at_is_not_there(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    top = ask(redis_server, storage, room, Newest(1)).top
    assert ask(redis_server, storage, room, Since(top, 1)).proof is Proof.COMPLETE
    assert redis_server.command("KEYS", f"*{room}*") == []


def test_an_empty_room_goes_on_while_nothing_of_it_can_be_forgotten(
    redis_server: RedisServer, storage: Storage
) -> None:
    room, other = str(uuid4()), Storage(NAMES, HistoryLimits(count=100, age=0.0))
    top = ask(redis_server, storage, room, Newest(1)).top
    longest = (storage.position_ms - 1_000) * 1_000
    oldest, now = top.tag - longest, top.tag
    began = redis_server.command("HGET", NAMES.store_key, "t")
    try:
        redis_server.command("HSET", NAMES.store_key, "t", "1")
        early = Position(top.epoch, 0, oldest - int(EMPTY_ROOM_SECONDS * 1e6))
        late = Position(top.epoch, 0, now - longest // 2)
        proofs = [ask(redis_server, storage, room, Since(each, 1)).proof for each in (early, late)]
        assert proofs == [Proof.LOST, Proof.COMPLETE]
        assert ask(redis_server, other, room, Since(early, 1)).proof is Proof.COMPLETE, "nothing is ever forgotten"
        [(_, text)] = run(redis_server, storage.publish(room, b"x", None))
        stored = parse(text)
        assert [continues(each, stored) for each in (early, late, top)] == [False, True, True]
    finally:
        redis_server.command("HSET", NAMES.store_key, "t", began)


def test_a_room_that_an_earlier_version_looked_at_goes_on(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    redis_server.command("HSET", NAMES.position_key(room), "e", "Old", "o", "0", "t", "0")
    before = Position("Old", 0, 0)
    assert ask(redis_server, storage, room, Newest(1)).top == before
    assert ask(redis_server, storage, room, Since(before, 1)).proof is Proof.COMPLETE
    [(_, text)] = run(redis_server, storage.publish(room, b"x", None))
    assert text.endswith(b":0:Old:")
    answered = ask(redis_server, storage, room, Since(before, 1))
    assert (answered.proof, [one.data for one in answered.publications]) == (Proof.COMPLETE, [b"x"])


def test_a_key_does_not_answer_with_a_history_that_is_lost(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    [(_, lost)] = run(redis_server, storage.publish(room, b"x", "key"))
    redis_server.command("DEL", NAMES.position_key(room))
    [(duplicate, text)] = run(redis_server, storage.publish(room, b"x", "key"))
    assert not duplicate
    assert parse(text).position.epoch != parse(lost).position.epoch
    [(duplicate, again)] = run(redis_server, storage.publish(room, b"x", "key"))
    assert (duplicate, parse(again).position) == (1, parse(text).position)


def test_redis_keeps_little_more_than_the_count(redis_server: RedisServer) -> None:
    room, storage = str(uuid4()), Storage(Names(), HistoryLimits(count=10, age=1_000.0))
    run(redis_server, *[storage.publish(room, b"x" * 100, None) for _ in range(500)])
    assert 10 <= redis_server.command("XLEN", NAMES.stream_key(room)) <= 110


def test_redis_drops_what_is_too_old_from_a_stream_that_goes_on(redis_server: RedisServer) -> None:
    room, storage = str(uuid4()), Storage(Names(), HistoryLimits(count=1_000, age=1_000.0))
    old = Storage(Names(), HistoryLimits(count=1_000, age=0.0))
    run(redis_server, old.publish(room, b"old", None))
    [(_, text)] = run(redis_server, old.publish(room, b"new", None))
    # Times cannot be turned back: the first one is put where it would be, two days ago.
    stored = parse(text)
    redis_server.command("DEL", NAMES.stream_key(room))
    long_ago = stored.position.tag - 2 * 86_400 * 1_000_000
    redis_server.command("XADD", NAMES.stream_key(room), f"{long_ago}-1", "p", "0", "d", "old")
    [reply] = run(redis_server, storage.ask(room, Newest(10)))
    assert storage.answer(Newest(10), reply).publications == (), "hidden before it is dropped"
    run(redis_server, storage.publish(room, b"newer", None))
    assert redis_server.command("XLEN", NAMES.stream_key(room)) == 1


def test_a_clock_that_was_set_back_does_not_turn_tags_back(redis_server: RedisServer, storage: Storage) -> None:
    room = str(uuid4())
    [(_, text)] = run(redis_server, storage.publish(room, b"x", None))
    ahead = parse(text).position.tag + 3_600 * 1_000_000
    redis_server.command("HSET", NAMES.position_key(room), "t", str(ahead))
    replies = run(redis_server, *[storage.publish(room, b"x", None) for _ in range(2)])
    stored = [parse(text) for _, text in replies]
    assert [(one.previous, one.position.tag) for one in stored] == [(ahead, ahead + 1), (ahead + 1, ahead + 2)]


@pytest.mark.parametrize("text", [b"", b"1:2:3:E", b"x:2:3:E:data", b"1:2:3:\xff:data"])
def test_what_is_no_publication_is_not_parsed(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        parse(text)
