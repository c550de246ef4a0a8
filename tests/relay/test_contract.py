"""What every relay does, whatever is behind it: publishing, presence, start and stop.

Nothing here looks into a relay, supposes that it answers within the call, or that its storage is empty.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.relay.conftest import Backend, Events, Start
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.publication import Newest, Position, Proof, Publication, Published, Since
from twisted_chat.relay.interface import HistoryLimits, RelayError
from twisted_chat.relay.sqlite.thread import IRelayReactor


def numbered(first: int, last: int) -> list[bytes]:
    return [b'{"message":"%d"}' % number for number in range(first, last + 1)]


# Publishing


@pytest_twisted.ensureDeferred
async def test_publications_form_a_chain_of_positions(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 5))
    assert [publication.data for publication in stored] == numbered(1, 5)
    assert [publication.position.offset for publication in stored] == [1, 2, 3, 4, 5]
    assert len({publication.position.epoch for publication in stored}) == 1
    assert [publication.previous for publication in stored[1:]] == [one.position.tag for one in stored[:-1]]
    assert all(publication.previous < publication.position.tag for publication in stored)


@pytest_twisted.ensureDeferred
async def test_tags_are_the_microsecond_of_storing(start: Start, room: str, reactor: IRelayReactor) -> None:
    node = await start()
    before = reactor.seconds()
    [stored] = await node.publish(room, b"{}")
    after = reactor.seconds()
    # A relay elsewhere has a clock of its own.
    assert before - 60 <= stored.position.tag / 1e6 <= after + 60


@pytest_twisted.ensureDeferred
async def test_positions_survive_their_text_form(start: Start, room: str) -> None:
    node = await start()
    [stored] = await node.publish(room, b"{}")
    assert Position.parse(str(stored.position)) == stored.position


@pytest_twisted.ensureDeferred
async def test_publications_are_delivered_once_in_order_also_to_who_published(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    stored = await node.publish(room, *numbered(1, 5))
    await node.delivered(room, 5)
    await node.turn(0.05)
    assert node.events.publications(room) == stored


@pytest_twisted.ensureDeferred
async def test_publishes_are_stored_in_the_order_of_the_calls(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    calls = [node.relay.publish(room, data) for data in numbered(1, 90)]
    stored = await gatherResults(calls)
    assert [one.publication.position.offset for one in stored] == list(range(1, 91))
    assert await node.delivered(room, 90) == numbered(1, 90)
    assert await node.ask(room, Newest(100)) == (Proof.COMPLETE, numbered(1, 90))


@pytest_twisted.ensureDeferred
async def test_a_publication_made_by_a_delivery_comes_after_it_for_everyone(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    answered: list[Deferred[Published]] = []
    order: list[str] = []

    def echo(where: str, publication: Publication) -> None:
        order.append(f"begin {publication.position.offset}")
        if publication.position.offset < 3:
            answered.append(node.relay.publish(room, b"echo of " + publication.data))
        order.append(f"end {publication.position.offset}")

    node.events.on_deliver = echo
    await node.publish(room, b"shout")
    assert await node.delivered(room, 3) == [b"shout", b"echo of shout", b"echo of echo of shout"]
    assert order == ["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]
    assert [one.publication.position.offset for one in await gatherResults(answered)] == [2, 3]


@pytest_twisted.ensureDeferred
async def test_only_subscribed_rooms_are_delivered(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    await node.publish(room + "/other", b"unheard")
    await node.publish(room, b"heard")
    assert await node.delivered(room, 1) == [b"heard"]
    assert node.events.publications(room + "/other") == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_delivered_after_unsubscribing(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    node.relay.unsubscribe(room)

    async def quiet() -> bool:
        before = len(node.events.publications(room))
        await node.publish(room, b"{}")
        await node.turn(0.02)
        return len(node.events.publications(room)) == before

    await node.until(quiet)


@pytest_twisted.ensureDeferred
async def test_subscribing_twice_delivers_once(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    await node.subscribe(room)
    await node.publish(room, b"one", b"two")
    assert await node.delivered(room, 2) == [b"one", b"two"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", bytes(range(256)), b"007", b"None", b"\r\n$3\r\nfoo\r\n", b"x" * 300_000],
    ids=["empty", "json", "every byte", "number", "word", "protocol", "long"],
)
@pytest_twisted.ensureDeferred
async def test_data_is_kept_byte_for_byte(start: Start, room: str, data: bytes) -> None:
    node = await start()
    await node.subscribe(room)
    [stored] = await node.publish(room, data)
    assert stored.data == data
    assert await node.delivered(room, 1) == [data]
    assert await node.ask(room, Newest(1)) == (Proof.COMPLETE, [data])


@pytest.mark.parametrize(
    "name", ["with space", "a/b/c", "räum/日本語", "👍" * 100, "{brace}", "h?llo*[a]", "%7Bpercent", "'"]
)
@pytest_twisted.ensureDeferred
async def test_any_room_name_is_a_room_of_its_own(start: Start, room: str, name: str) -> None:
    node = await start()
    await node.subscribe(room + name)
    await node.publish(room + name, b"here")
    await node.publish(room, b"there")
    assert await node.delivered(room + name, 1) == [b"here"]
    assert await node.ask(room + name, Newest(10)) == (Proof.COMPLETE, [b"here"])
    assert (await node.top(room + name)).epoch != (await node.top(room)).epoch


@pytest_twisted.ensureDeferred
async def test_a_spender_may_be_anybody_and_changes_nothing_while_there_is_space(start: Start, room: str) -> None:
    node = await start()
    spenders = [None, "user:ann", "address:192.0.2.1", "", "\ud800", "address:192.0.2.1"]
    for number, spender in enumerate(spenders):
        await node.relay.publish(room, b"%d" % number, None, spender)
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"0", b"1", b"2", b"3", b"4", b"5"])


# Idempotency


@pytest_twisted.ensureDeferred
async def test_the_same_key_is_stored_and_delivered_once(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    first = await node.relay.publish(room, b"one", "key")
    again = await node.relay.publish(room, b"one", "key")
    await node.publish(room, b"two")
    assert not first.duplicate
    assert again == Published(first.publication, duplicate=True)
    assert await node.delivered(room, 2) == [b"one", b"two"]
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"one", b"two"])


@pytest_twisted.ensureDeferred
async def test_the_same_key_at_the_same_time_is_stored_once(start: Start, room: str) -> None:
    node = await start()
    calls = [node.relay.publish(room, b"one", "key") for _ in range(5)]
    first, *others = await gatherResults(calls)
    assert not first.duplicate
    assert others == [Published(first.publication, duplicate=True)] * 4
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"one"])


@pytest_twisted.ensureDeferred
async def test_keys_are_of_one_room_and_without_one_everything_is_stored(start: Start, room: str) -> None:
    node = await start()
    published = [
        await node.relay.publish(room, b"one", "key"),
        await node.relay.publish(room + "/other", b"one", "key"),
        await node.relay.publish(room, b"one", "kez"),
        await node.relay.publish(room, b"one"),
        await node.relay.publish(room, b"one"),
    ]
    assert not any(one.duplicate for one in published)
    assert [one.publication.position.offset for one in published] == [1, 1, 2, 3, 4]


@pytest.mark.parametrize("key", ["", "k" * 64, "schlüssel 鍵 🔑", "a:b|c", "\x00", "\ud800"])
@pytest_twisted.ensureDeferred
async def test_any_text_is_a_key(start: Start, room: str, key: str) -> None:
    node = await start()
    first = await node.relay.publish(room, b"one", key)
    again = await node.relay.publish(room, b"one", key)
    assert again == Published(first.publication, duplicate=True)
    assert not (await node.relay.publish(room, b"one", key + "'")).duplicate


@pytest_twisted.ensureDeferred
async def test_a_key_answers_with_the_publication_also_when_history_has_none_of_it(start: Start, room: str) -> None:
    node = await start(HistoryLimits(count=1, age=3600.0))
    first = await node.relay.publish(room, b"one", "key")
    await node.publish(room, b"two", b"three")
    assert await node.relay.publish(room, b"one", "key") == Published(first.publication, duplicate=True)
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [b"three"])


# Presence and signals


@pytest_twisted.ensureDeferred
async def test_handles_are_present_in_the_order_in_which_they_came(start: Start, room: str) -> None:
    node = await start()
    assert await node.relay.present(room) == ()
    for number, handle in enumerate(["zoe", "ann", "Bob", "ann"]):
        node.relay.enter(room, f"connection {number}", handle)

        async def here(handle: str = handle) -> bool:
            return handle in await node.relay.present(room)

        await node.until(here)
    assert await node.relay.present(room) == ("zoe", "ann", "Bob")
    assert await node.relay.present(room + "/other") == ()


@pytest_twisted.ensureDeferred
async def test_a_handle_joins_with_its_first_member_and_leaves_with_its_last(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    node.relay.enter(room, "a", "ann")
    node.relay.enter(room, "b", "ann")
    node.relay.leave(room, "a")
    node.relay.leave(room, "b")
    node.relay.enter(room, "c", "bob")
    await node.until(lambda: (room, "joined", "bob") in node.events.presence)
    assert node.events.presence == [(room, "joined", "ann"), (room, "left", "ann"), (room, "joined", "bob")]
    assert await node.relay.present(room) == ("bob",)


@pytest_twisted.ensureDeferred
async def test_a_member_may_be_renamed(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    node.relay.enter(room, "a", "ann")
    node.relay.enter(room, "a", "ann")
    node.relay.enter(room, "a", "anna")
    await node.until(lambda: len(node.events.presence) >= 3)
    assert node.events.presence[0] == (room, "joined", "ann")
    assert set(node.events.presence[1:]) == {(room, "left", "ann"), (room, "joined", "anna")}
    assert await node.relay.present(room) == ("anna",)


@pytest_twisted.ensureDeferred
async def test_leaving_twice_or_without_having_come_is_no_error(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    node.relay.leave(room, "nobody")
    node.relay.enter(room, "a", "ann")
    node.relay.leave(room, "nobody")
    node.relay.leave(room, "a")
    node.relay.leave(room, "a")
    await node.until(lambda: (room, "left", "ann") in node.events.presence)
    assert node.events.presence == [(room, "joined", "ann"), (room, "left", "ann")]


@pytest_twisted.ensureDeferred
async def test_presence_of_rooms_without_subscriber_is_kept_but_not_told(start: Start, room: str) -> None:
    node = await start()
    node.relay.enter(room, "a", "ann")

    async def here() -> bool:
        return await node.relay.present(room) == ("ann",)

    await node.until(here)
    await node.subscribe(room)
    node.relay.enter(room, "b", "bob")
    await node.until(lambda: (room, "joined", "bob") in node.events.presence)
    assert node.events.presence == [(room, "joined", "bob")]
    assert await node.relay.present(room) == ("ann", "bob")


@pytest_twisted.ensureDeferred
async def test_signals_reach_subscribers_and_are_kept_nowhere(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    node.relay.signal(room + "/other", b"unheard")
    node.relay.signal(room, b"heard \x00\xff")
    await node.until(lambda: (room, b"heard \x00\xff") in node.events.signals)
    assert all(where == room for where, _ in node.events.signals)
    assert await node.ask(room, Newest(10)) == (Proof.COMPLETE, [])


# Start and stop


async def refuses(call: Callable[[], Awaitable[Any]]) -> bool:
    with pytest.raises(ChatError) as refusal:
        await call()
    return refusal.value.reason is Reason.TRY_AGAIN and len(refusal.value.message) > 10


@pytest_twisted.ensureDeferred
async def test_a_started_relay_is_ready(start: Start) -> None:
    node = await start()
    assert await node.relay.ready() == ()
    assert await gatherResults([node.relay.ready() for _ in range(3)]) == 3 * [()]


@pytest_twisted.ensureDeferred
async def test_being_ready_does_not_touch_histories(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    [first] = await node.publish(room, b"1")
    await node.relay.ready()
    [second] = await node.publish(room, b"2")
    await node.relay.ready()
    assert second.previous == first.position.tag
    assert (await node.relay.history(room, Newest(10))).publications == (first, second)
    assert await node.delivered(room, 2) == [b"1", b"2"]
    assert {where for where, _ in node.events.delivered} == {room}


@pytest_twisted.ensureDeferred
async def test_a_relay_that_was_not_started_refuses(backend: Backend, tmp_path: Path, room: str) -> None:
    relay = backend(tmp_path, HistoryLimits())
    assert await refuses(relay.ready)
    assert await refuses(lambda: relay.publish(room, b"{}"))
    await relay.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_finishes_what_was_accepted_and_then_refuses(start: Start, room: str) -> None:
    node = await start()
    await node.subscribe(room)
    calls = [node.relay.publish(room, data) for data in numbered(1, 50)]
    asked = node.relay.history(room, Newest(100))
    stopped = node.relay.stop()
    late = node.relay.publish(room, b"late")
    assert await refuses(lambda: late)
    await stopped
    stored = [one.publication for one in await gatherResults(calls)]
    assert [publication.position.offset for publication in stored] == list(range(1, 51))
    assert node.events.publications(room) == stored
    assert [publication.data for publication in (await asked).publications] == numbered(1, 50)
    for call in (
        lambda: node.relay.publish(room, b"late"),
        lambda: node.relay.publish(room, b"late", "key"),
        lambda: node.relay.history(room, Newest(1)),
        lambda: node.relay.present(room),
        node.relay.ready,
    ):
        assert await refuses(call)
    node.relay.signal(room, b"late")
    node.relay.enter(room, "a", "ann")
    node.relay.leave(room, "a")
    node.relay.subscribe(room)
    node.relay.unsubscribe(room)
    assert node.events.publications(room) == stored
    assert (node.events.signals, node.events.presence) == ([], [])


@pytest_twisted.ensureDeferred
async def test_stopping_again_or_while_it_stops_waits_for_the_same_end(start: Start, room: str) -> None:
    node = await start()
    published = node.relay.publish(room, b"{}")
    await gatherResults([node.relay.stop(), node.relay.stop()])
    assert published.called
    await published
    await node.relay.stop()


@pytest_twisted.ensureDeferred
async def test_stopping_while_it_starts_leaves_nothing_running(
    backend: Backend, tmp_path: Path, events: Events
) -> None:
    relay = backend(tmp_path, HistoryLimits())
    started = relay.start(events)
    await relay.stop()
    # It may have been the quicker one.
    with suppress(RelayError):
        await started
    assert await refuses(relay.ready)


@pytest_twisted.ensureDeferred
async def test_history_continues_after_a_restart_or_says_that_it_is_lost(start: Start, room: str) -> None:
    node = await start()
    stored = await node.publish(room, *numbered(1, 3))
    keyed = await node.relay.publish(room, b"keyed", "key")
    await node.relay.stop()
    again = await start()
    answer = await again.relay.history(room, Since(stored[0].position, 10))
    if again.relay.durable:
        assert answer.proof is Proof.COMPLETE
        assert answer.publications == (*stored[1:], keyed.publication)
        assert await again.relay.publish(room, b"keyed", "key") == Published(keyed.publication, duplicate=True)
        [fifth] = await again.publish(room, b"fifth")
        assert fifth.previous == keyed.publication.position.tag
        assert fifth.position.offset == 5
    else:
        assert (answer.proof, answer.publications) == (Proof.LOST, ())
        assert answer.top.epoch != stored[0].position.epoch
