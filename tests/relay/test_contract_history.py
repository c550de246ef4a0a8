"""What every relay answers about the past.

Nothing here looks into a relay, supposes that it answers within the call, or that its storage is empty.
"""

from __future__ import annotations

import pytest_twisted
from twisted.internet.defer import gatherResults

from tests.relay.conftest import Start, kept
from twisted_chat.core.publication import Before, Newest, Position, Proof, Since, continues
from twisted_chat.relay.interface import HistoryLimits


def numbered(first: int, last: int) -> list[bytes]:
    return [b'{"message":"%d"}' % number for number in range(first, last + 1)]


# The newest


@pytest_twisted.ensureDeferred
async def test_an_empty_room_goes_on_for_whoever_looked_at_it_at_any_time(start: Start, room: str) -> None:
    node = await start()
    looked = [await node.top(room)]
    for number in range(3):
        await node.publish(f"{room}/other {number}", b"{}")
        looked.append(await node.top(room))
    await node.subscribe(room)
    looked.append(await node.top(room))
    [stored] = await node.publish(room, b"one")
    node.relay.unsubscribe(room)
    for position in looked:
        assert continues(position, stored)
        assert await node.ask(room, Since(position, 10)) == (Proof.COMPLETE, [b"one"])


@pytest_twisted.ensureDeferred
async def test_reading_and_joining_create_nothing(start: Start, room: str) -> None:
    node = await start()
    [stored] = await node.publish(room, b"kept")
    before = await kept(node.relay, room)
    for number in range(300):
        name = f"{room}/{number}"
        node.relay.subscribe(name)
        position = await node.top(name)
        for question in (Newest(10), Since(position, 10), Before(position, 10), Since(stored.position, 10)):
            await node.relay.history(name, question)
        assert await node.relay.present(name) == ()
        node.relay.unsubscribe(name)
        await node.ask(f"{name}/read", Newest(1))
    assert await kept(node.relay, room) == before
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"kept"])


@pytest_twisted.ensureDeferred
async def test_a_room_without_publications_has_a_position(start: Start, room: str) -> None:
    node = await start()
    beginning = await node.top(room)
    assert beginning.offset == 0
    assert Position.parse(str(beginning)) == beginning
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [])
    assert await node.ask(room, Since(beginning, 10)) == (Proof.COMPLETE, [])
    assert await node.ask(room, Before(beginning, 10)) == (Proof.COMPLETE, [])
    stored = await node.publish(room, *numbered(1, 3))
    assert continues(beginning, stored[0])
    assert await node.ask(room, Since(beginning, 10)) == (Proof.COMPLETE, numbered(1, 3))
    assert await node.ask(room, Before(beginning, 10)) == (Proof.COMPLETE, [])


@pytest_twisted.ensureDeferred
async def test_newest_are_given_oldest_first_and_it_is_said_when_there_are_older_ones(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    history = await node.relay.history(room, Newest(5))
    assert (history.top, history.proof, history.publications) == (stored[-1].position, Proof.COMPLETE, tuple(stored))
    assert await node.ask(room, Newest(6)) == (Proof.COMPLETE, numbered(1, 5))
    assert await node.ask(room, Newest(4)) == (Proof.MORE, numbered(2, 5))
    assert await node.ask(room, Newest(1)) == (Proof.MORE, numbered(5, 5))
    assert await node.ask(room, Newest(0)) == (Proof.MORE, [])


@pytest_twisted.ensureDeferred
async def test_history_includes_what_was_published_before_without_waiting(start: Start, room: str) -> None:
    node = await start()
    calls = [node.relay.publish(room, data) for data in numbered(1, 20)]
    history = await node.relay.history(room, Newest(100))
    assert [publication.data for publication in history.publications[:20]] == numbered(1, 20)
    await gatherResults(calls)


# Since a position


@pytest_twisted.ensureDeferred
async def test_since_gives_what_followed_in_pages(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    page = await node.relay.history(room, Since(stored[0].position, 3))
    assert page.proof is Proof.MORE
    assert page.publications == tuple(stored[1:4])
    assert page.top == stored[-1].position
    assert await node.ask(room, Since(page.publications[-1].position, 3)) == (Proof.COMPLETE, numbered(5, 5))
    assert await node.ask(room, Since(stored[1].position, 3)) == (Proof.COMPLETE, numbered(3, 5))
    assert await node.ask(room, Since(stored[-1].position, 3)) == (Proof.COMPLETE, [])


@pytest_twisted.ensureDeferred
async def test_since_a_position_that_never_was_is_lost(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    top = stored[-1].position
    [other] = [one.position for one in await node.publish(room + "/other", b"{}")]
    now = (await node.top(room + "/third")).tag
    for position in [
        Position(other.epoch, 3, stored[2].position.tag),
        Position("", 3, stored[2].position.tag),
        Position(top.epoch, 3, stored[2].position.tag + 1),
        Position(top.epoch, 3, 0),
        Position(top.epoch, 5, top.tag + 1),
        Position(top.epoch, 6, top.tag + 1),
        Position(top.epoch, 10**18 - 1, 10**18 - 1),
        Position(top.epoch, 0, 1),
        Position(other.epoch, 0, 0),
        Position("unknown", 0, stored[0].previous),
        Position((await node.top(room + "/third")).epoch, 0, max(now, top.tag)),
    ]:
        history = await node.relay.history(room, Since(position, 10))
        assert (history.proof, history.publications, history.top) == (Proof.LOST, (), top), position


@pytest_twisted.ensureDeferred
async def test_since_is_lost_as_soon_as_something_after_it_was_trimmed(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=3, age=3600.0))
    beginning = await node.top(room)
    stored = await node.publish(room, *numbered(1, 5))
    positions = [beginning] + [publication.position for publication in stored]
    answers = [await node.ask(room, Since(position, 10)) for position in positions]
    assert answers == [
        (Proof.LOST, []),
        (Proof.LOST, []),
        # Trimmed itself, but the first that is kept names it as the one before.
        (Proof.COMPLETE, numbered(3, 5)),
        (Proof.COMPLETE, numbered(4, 5)),
        (Proof.COMPLETE, numbered(5, 5)),
        (Proof.COMPLETE, []),
    ]
    forged = Position(beginning.epoch, 2, positions[2].tag - 1)
    assert await node.ask(room, Since(forged, 10)) == (Proof.LOST, [])


# Before a position


@pytest_twisted.ensureDeferred
async def test_before_gives_what_stood_right_before_in_pages(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    page = await node.relay.history(room, Before(stored[4].position, 2))
    assert (page.proof, page.publications, page.top) == (Proof.MORE, tuple(stored[2:4]), stored[-1].position)
    assert await node.ask(room, Before(stored[2].position, 2)) == (Proof.COMPLETE, numbered(1, 2))
    assert await node.ask(room, Before(stored[2].position, 1)) == (Proof.MORE, numbered(2, 2))
    assert await node.ask(room, Before(stored[0].position, 2)) == (Proof.COMPLETE, [])


@pytest_twisted.ensureDeferred
async def test_before_a_position_that_never_was_is_lost(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    top = stored[-1].position
    other = await node.top(room + "/other")
    for position in [
        Position(other.epoch, 3, stored[2].position.tag),
        Position(top.epoch, 3, stored[2].position.tag + 1),
        Position(top.epoch, 5, top.tag - 1),
        Position(top.epoch, 6, top.tag + 1),
        Position(top.epoch, 0, 1),
    ]:
        history = await node.relay.history(room, Before(position, 10))
        assert (history.proof, history.publications, history.top) == (Proof.LOST, (), top), position


@pytest_twisted.ensureDeferred
async def test_before_stops_where_the_history_was_trimmed(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=3, age=3600.0))
    stored = await node.publish(room, *numbered(1, 5))
    answers = [await node.ask(room, Before(publication.position, 2)) for publication in stored]
    assert answers == [
        (Proof.LOST, []),
        (Proof.COMPLETE, []),
        (Proof.COMPLETE, []),
        (Proof.COMPLETE, numbered(3, 3)),
        (Proof.COMPLETE, numbered(3, 4)),
    ]


# Limits


@pytest_twisted.ensureDeferred
async def test_so_many_are_kept_and_offsets_go_on(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=4, age=3600.0))
    for first in range(1, 100, 9):
        await gatherResults([node.relay.publish(room, data) for data in numbered(first, first + 8)])
        assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, numbered(first + 5, first + 8))
    assert (await node.top(room)).offset == 99


@pytest_twisted.ensureDeferred
async def test_a_room_may_have_no_history_at_all(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=0, age=3600.0))
    await node.subscribe(room)
    stored = await node.publish(room, *numbered(1, 3))
    assert await node.delivered(room, 3) == numbered(1, 3)
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [])
    assert await node.ask(room, Since(stored[2].position, 10)) == (Proof.COMPLETE, [])
    assert await node.ask(room, Since(stored[1].position, 10)) == (Proof.LOST, [])


@pytest_twisted.ensureDeferred
async def test_what_is_too_old_is_hidden_and_the_chain_goes_on(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=100, age=0.3))
    beginning = await node.top(room)
    stored = await node.publish(room, *numbered(1, 3))

    async def hidden() -> bool:
        return await node.ask(room, Newest(10)) == (Proof.COMPLETE, [])

    await node.until(hidden)
    top = stored[-1].position
    assert await node.top(room) == top
    assert await node.ask(room, Since(beginning, 10)) == (Proof.LOST, [])
    assert await node.ask(room, Since(stored[1].position, 10)) == (Proof.LOST, [])
    assert await node.ask(room, Since(top, 10)) == (Proof.COMPLETE, [])
    assert await node.ask(room, Before(top, 10)) == (Proof.COMPLETE, [])
    [fourth] = await node.publish(room, *numbered(4, 4))
    assert (fourth.position.epoch, fourth.position.offset, fourth.previous) == (top.epoch, 4, top.tag)


@pytest_twisted.ensureDeferred
async def test_an_age_of_0_keeps_any(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=100, age=0.0))
    await node.publish(room, *numbered(1, 3))
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, numbered(1, 3))
