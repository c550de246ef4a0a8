"""Which of the rooms that nobody is in goes first."""

from __future__ import annotations

from collections import Counter

from twisted_chat.relay.idle import EVICTIONS, IdleRooms


class Rooms:
    """Rooms with their bytes and spenders, all of them idle."""

    def __init__(self, *rooms: tuple[str, str | None, int]) -> None:
        self.bytes: dict[str, int] = {}
        self.spenders: dict[str, str | None] = {}
        self.idle = IdleRooms(self._bytes_of)
        for room, spender, size in rooms:
            self.use(room, spender, size)

    def use(self, room: str, spender: str | None, size: int = 1) -> None:
        self.bytes[room], self.spenders[room] = size, spender
        self.idle.use(room, spender)

    def drain(self, count: int) -> list[str]:
        gone = []
        for _ in range(count):
            room = self.idle.first("", None, spare=False)
            assert room is not None
            self.idle.discard(room)
            del self.bytes[room]
            gone.append(room)
        return gone

    def _bytes_of(self) -> Counter[str | None]:
        sizes: Counter[str | None] = Counter()
        for room, size in self.bytes.items():
            sizes[self.spenders[room]] += size
        return sizes


def test_the_oldest_of_whoever_has_most_goes_first() -> None:
    rooms = Rooms(("a1", "a", 1), ("b1", "b", 1), ("a2", "a", 1), ("a3", "a", 1))
    rooms.use("a1", "a")
    assert rooms.drain(1) == ["a2"]
    assert (len(rooms.idle), sorted(rooms.idle)) == (3, ["a1", "a3", "b1"])


def test_bytes_count_and_not_rooms() -> None:
    rooms = Rooms(("large", "a", 1_000), ("small 1", "b", 10), ("small 2", "b", 10))
    assert rooms.drain(3) == ["large", "small 1", "small 2"]
    assert rooms.idle.first("", None, spare=False) is None


def test_the_one_in_use_is_passed_over() -> None:
    rooms = Rooms(("r", "a", 9))
    assert rooms.idle.first("r", "a", spare=False) is None
    rooms.use("s", "a")
    assert rooms.idle.first("r", "a", spare=True) == "s"


def test_rooms_of_those_who_have_less_are_spared() -> None:
    rooms = Rooms(("a", "ann", 1), ("b", "bob", 9))
    assert rooms.idle.first("b", "bob", spare=True) is None
    assert rooms.idle.first("b", "bob", spare=False) == "a"
    assert rooms.idle.first("a", "ann", spare=True) == "b"


def test_a_room_may_change_hands() -> None:
    rooms = Rooms(("a0", "a", 1), ("a1", "a", 1), ("a2", "a", 1))
    rooms.use("a0", None)
    assert sorted(rooms.drain(3)) == ["a0", "a1", "a2"]


def test_it_is_counted_again_before_others_have_more() -> None:
    rooms = Rooms(
        *[(f"{spender}{n}", spender, 1) for spender, count in (("a", 1_000), ("b", 900)) for n in range(count)]
    )
    gone = [room[0] for room in rooms.drain(300)]
    assert abs(gone.count("a") - 100 - gone.count("b")) <= 2 * EVICTIONS
