"""Everyone has a beat once in an interval, and is judged once its answer is due."""

from __future__ import annotations

import pytest

from twisted_chat.server.heartbeat import PARTS, Heartbeat


class Client:
    """Writes down in which tick what happened to it."""

    def __init__(self) -> None:
        self.now = 0
        self.beats: list[int] = []
        self.judged: list[tuple[int, int]] = []

    def beat(self) -> None:
        self.beats.append(self.now)

    def judge(self, beats: int) -> None:
        self.judged.append((self.now, beats))


def run(heartbeat: Heartbeat, ticks: int, *clients: Client) -> None:
    for _ in range(ticks):
        for client in clients:
            client.now += 1
        heartbeat.tick()


def test_beats_are_an_interval_apart() -> None:
    heartbeat, client = Heartbeat(25.0, 20.0), Client()
    heartbeat.add(client)
    run(heartbeat, 4 * PARTS, client)
    assert client.beats == [PARTS, 2 * PARTS, 3 * PARTS, 4 * PARTS]
    assert heartbeat.seconds * PARTS == 25.0


def test_those_who_came_at_different_times_have_different_turns() -> None:
    heartbeat = Heartbeat(25.0, 20.0)
    clients = [Client() for _ in range(PARTS)]
    for client in clients:
        heartbeat.add(client)
        run(heartbeat, 1, *clients)
    run(heartbeat, PARTS - 1, *clients)
    assert [client.beats for client in clients] == [[PARTS + number] for number in range(PARTS)]


@pytest.mark.parametrize(
    ("interval", "timeout", "beats", "ticks"),
    [
        (25.0, 20.0, 1, 20),
        (25.0, 0.1, 1, 1),
        (25.0, 20.4, 1, 21),
        (25.0, 25.0, 1, 25),
        (25.0, 26.0, 2, 26),
        (25.0, 50.0, 2, 50),
        (0.1, 0.3, 3, 75),
    ],
)
def test_an_answer_is_due_after_the_timeout(interval: float, timeout: float, beats: int, ticks: int) -> None:
    heartbeat, client = Heartbeat(interval, timeout), Client()
    heartbeat.add(client)
    run(heartbeat, 6 * PARTS, client)
    assert {counted for _, counted in client.judged} == {beats}
    due = [now - ticks for now, _ in client.judged]
    assert due[-3:] == [beat for beat in client.beats if beat <= due[-1]][-3:]


def test_who_left_is_left_alone() -> None:
    heartbeat, client = Heartbeat(25.0, 20.0), Client()
    heartbeat.remove(client)
    heartbeat.add(client)
    run(heartbeat, 3, client)
    heartbeat.remove(client)
    run(heartbeat, 2 * PARTS, client)
    assert client.beats == []
    assert client.judged == []


@pytest.mark.parametrize("when", ["beat", "judge"])
def test_one_may_leave_while_it_has_its_turn(when: str) -> None:
    heartbeat, other = Heartbeat(25.0, 20.0), Client()

    class Leaver(Client):
        def beat(self) -> None:
            super().beat()
            if when == "beat":
                heartbeat.remove(self)

        def judge(self, beats: int) -> None:
            super().judge(beats)
            heartbeat.remove(self)

    leaver = Leaver()
    heartbeat.add(leaver)
    heartbeat.add(other)
    run(heartbeat, 3 * PARTS, leaver, other)
    assert len(leaver.beats) <= 1
    assert len(other.beats) == 3
