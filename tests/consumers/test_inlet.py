"""The way into the queue: in order, each once, with the client paused while there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Event
from twisted_chat.consumers.inlet import AT_ONCE, AT_ONCE_BYTES, RETRY, Inlet, Kept
from twisted_chat.consumers.queue import QueueLimits, Taken


@dataclass
class ScriptedQueue:
    """Answers as it was told to, and then takes everything."""

    answers: list[Taken | Deferred[Taken] | None] = field(default_factory=list)
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    waiting: list[Deferred[None]] = field(default_factory=list)

    def enqueue(self, connection: str, first: int, events: Sequence[Event]) -> Deferred[Taken]:
        self.asked.append((first, [event.id for event in events]))
        answer = self.answers.pop(0) if self.answers else Taken(len(events))
        if isinstance(answer, Deferred):
            return answer
        return succeed(answer) if answer is not None else fail(NotReadyError("not now"))

    def room(self, connection: str) -> Deferred[None]:
        self.waiting.append(Deferred())
        return self.waiting[-1]


class Fixture:
    def __init__(self, *answers: Taken | Deferred[Taken] | None, kept: Kept | None = None) -> None:
        self.clock = Clock()
        self.kept = kept or Kept(QueueLimits())
        self.queue = ScriptedQueue(list(answers))
        self.log: list[str] = []
        self.inlet = Inlet(
            self.clock,
            self.queue,
            "a-1",
            self.kept,
            pause=lambda: self.log.append("pause"),
            resume=lambda: self.log.append("resume"),
            lost=lambda: self.log.append("lost"),
            empty=lambda _: self.log.append("empty"),
        )

    def put(self, *names: str, last: bool = False, text: str = "") -> None:
        for name in names:
            self.inlet.put(Event(name, "websocket.receive", {"text": text}), last=last)


def kept(**limits: int) -> Kept:
    return Kept(QueueLimits(**limits))


KILOBYTE = "x" * 1000


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


def test_while_the_queue_does_not_answer_only_so_much_is_kept() -> None:
    answer: Deferred[Taken] = Deferred()
    one = Fixture(answer, kept=kept(bytes_per_connection=10_000))
    for number in range(7):
        one.put(str(number), text=KILOBYTE)
    assert one.log == []
    one.put("7", "8", text=KILOBYTE)
    assert one.log == ["pause"]
    assert one.inlet.paused
    assert one.kept.bytes > 10_000
    answer.callback(Taken(1))
    assert one.log == ["pause", "resume", "empty"]
    assert one.kept.bytes == 0


def test_a_client_that_was_held_back_goes_on_when_half_is_in_the_queue() -> None:
    answers: list[Deferred[Taken]] = [Deferred() for _ in range(3)]
    one = Fixture(*answers, kept=kept(bytes_per_connection=10_000))
    for number in range(9):
        one.put(str(number), text=KILOBYTE)
    answers[0].callback(Taken(1))
    assert one.inlet.paused
    answers[1].callback(Taken(2))
    assert one.inlet.paused
    answers[2].callback(Taken(3))
    assert not one.inlet.paused
    assert one.log == ["pause", "resume", "empty"]


def test_while_there_is_too_much_of_all_nobody_has_more_than_one_event_here() -> None:
    full, answer = kept(bytes_in_all=9_000), Deferred[Taken]()
    heavy, light, late = Fixture(Deferred(), kept=full), Fixture(answer, kept=full), Fixture(Deferred(), kept=full)
    heavy.put("a", text=8 * KILOBYTE)
    assert (heavy.log, full.full) == ([], False)
    light.put("b", text=KILOBYTE)
    assert light.log == ["pause"]
    answer.callback(Taken(1))
    assert light.log == ["pause", "resume", "empty"]
    heavy.put("c", text=KILOBYTE)
    late.put("d")
    assert heavy.log == late.log == ["pause"]
    for each in (heavy, late):
        each.inlet.close()
    assert full.bytes == 0
    assert not full.full


@pytest.mark.parametrize("end", ["given up", "closed", "failed"])
def test_what_is_not_kept_any_more_is_not_counted(end: str, logged_failures: object) -> None:
    answer: Deferred[Taken] = Deferred()
    one = Fixture(answer)
    one.put("a", "b", text=KILOBYTE)
    match end:
        case "given up":
            answer.callback(Taken(0, known=False))
        case "closed":
            one.inlet.close()
        case "failed":
            answer.errback(ValueError("a mistake"))
            logged_failures.flush(ValueError)  # type: ignore[attr-defined]
    one.put("c")
    assert one.kept.bytes == 0


def test_large_ones_go_in_smaller_parts() -> None:
    answer: Deferred[Taken] = Deferred()
    one = Fixture(answer, kept=kept(bytes_per_connection=1 << 20))
    size = Event("0", "websocket.receive", {"text": 10 * KILOBYTE}).kept_bytes()
    for number in range(9):
        one.put(str(number), text=10 * KILOBYTE)
    one.put("9", text=AT_ONCE_BYTES * "x")
    answer.callback(Taken(1))
    first, *_, before_last, last = [names for _, names in one.queue.asked]
    assert first == ["0"]
    assert len(one.queue.asked[1][1]) == AT_ONCE_BYTES // size
    assert (before_last[-1], last) == ("8", ["9"])
