"""The way into the queue: in order, each once, with the client paused while there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.inlet import AT_ONCE, RETRY, Inlet
from twisted_chat.consumers.queue import Taken


@dataclass
class ScriptedQueue:
    """Answers as it was told to, and then takes everything."""

    answers: list[Taken | None] = field(default_factory=list)
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    waiting: list[Deferred[None]] = field(default_factory=list)

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        self.asked.append((first, [event.id for event in events]))
        answer = self.answers.pop(0) if self.answers else Taken(len(events))
        return succeed(answer) if answer is not None else fail(NotReadyError("not now"))

    def room(self, connection: str) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Fixture:
    def __init__(self, *answers: Taken | None) -> None:
        self.clock = Clock()
        self.queue = ScriptedQueue(list(answers))
        self.log: list[str] = []
        self.inlet = Inlet(
            self.clock,
            self.queue,
            "a-1",
            pause=lambda: self.log.append("pause"),
            resume=lambda: self.log.append("resume"),
            lost=lambda: self.log.append("lost"),
            empty=lambda _: self.log.append("empty"),
        )

    def put(self, *names: str, last: bool = False) -> None:
        for name in names:
            self.inlet.put(Event(name, "websocket.receive", {}), last=last)


def test_events_go_straight_in() -> None:
    one = Fixture()
    one.put("a", "b")
    assert one.queue.asked == [(0, ["a"]), (1, ["b"])]
    assert one.log == ["empty", "empty"]
    assert one.inlet.next == one.inlet.taken == 2


def test_without_room_the_client_waits() -> None:
    one = Fixture(Taken(1, room=False))
    one.put("a", "b", "c")
    assert one.log == ["pause"]
    assert one.inlet.paused
    one.queue.waiting[0].callback(None)
    assert not one.inlet.paused
    assert one.queue.asked == [(0, ["a"]), (1, ["b", "c"])]
    assert one.log == ["pause", "resume", "empty"]


def test_what_was_not_taken_is_offered_again() -> None:
    one = Fixture(Taken(0, room=False), Taken(1, room=False))
    one.put("a", "b")
    one.queue.waiting[0].callback(None)
    one.queue.waiting[1].callback(None)
    assert one.queue.asked == [(0, ["a"]), (0, ["a", "b"]), (1, ["b"])]


def test_what_may_have_been_taken_is_offered_again() -> None:
    one = Fixture(None, None)
    one.put("a", "b")
    assert one.log == ["pause"]
    one.clock.advance(RETRY)
    one.clock.advance(RETRY)
    assert one.queue.asked == [(0, ["a"]), (0, ["a", "b"]), (0, ["a", "b"])]
    assert one.log == ["pause", "resume", "pause", "resume", "empty"]


def test_many_go_in_parts() -> None:
    one = Fixture(Taken(0, room=False))
    names = [str(number) for number in range(2 * AT_ONCE)]
    one.put(*names)
    one.queue.waiting[0].callback(None)
    assert [len(some) for _, some in one.queue.asked] == [1, AT_ONCE, AT_ONCE]
    assert [name for _, some in one.queue.asked[1:] for name in some] == names


def test_a_connection_that_was_given_up() -> None:
    one = Fixture(Taken(1), Taken(0, known=False))
    one.put("a", "b", "c")
    assert one.log == ["empty", "lost", "empty"]
    assert len(one.queue.asked) == 2, "nothing more is offered"


def test_after_the_last_event_nothing_is_held_back() -> None:
    one = Fixture(Taken(1, room=False), Taken(1, room=False))
    one.put("a", "b", "c")
    one.put("bye", last=True)
    assert one.queue.asked == [(0, ["a"]), (1, ["b", "c", "bye"]), (2, ["c", "bye"])]
    assert one.log[-1] == "empty"


def test_giving_up() -> None:
    one = Fixture(None)
    one.put("a")
    one.inlet.close()
    one.put("b")
    assert one.queue.asked == [(0, ["a"])]
    assert not one.clock.getDelayedCalls()


def test_a_queue_that_fails_ends_the_connection(logged_failures: object) -> None:
    one = Fixture()
    one.queue.enqueue = lambda *_: fail(ValueError("a mistake"))  # type: ignore[method-assign]
    one.put("a")
    assert one.log == ["lost", "empty"]
    assert [str(error) for error in logged_failures.flush(ValueError)] == ["a mistake"]  # type: ignore[attr-defined]
