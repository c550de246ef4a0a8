"""Work in rotation over addresses and connections, against a model of it that takes its time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.server.http.rotation import Rotation, Work


def work(address: str | None, connection: object) -> Work:
    return Work(address, connection, lambda: None)


def served(rotation: Rotation) -> list[object]:
    """The connections of all that waits, in the order in which it is served."""
    return [rotation.take().connection for _ in range(len(rotation))]


def test_addresses_take_turns_and_so_do_connections_of_one() -> None:
    rotation = Rotation()
    for connection in ("a1", "a1", "a1", "a2", "a2", "b1", "b1", "c1"):
        rotation.add(work(connection[0], connection))
    assert served(rotation) == ["a1", "b1", "c1", "a2", "b1", "a1", "a2", "a1"]


def test_who_comes_late_does_not_wait_for_all_that_others_have_waiting() -> None:
    rotation = Rotation()
    for _ in range(100):
        rotation.add(work("flood", 1))
    rotation.add(work("other", 2))
    assert served(rotation).index(2) == 1


def test_clients_without_an_address_share_one_place() -> None:
    rotation = Rotation()
    for connection in (1, 2, 3):
        rotation.add(work(None, connection))
    rotation.add(work("a", 4))
    assert served(rotation) == [1, 4, 2, 3]


def test_nothing_is_taken_from_nothing() -> None:
    with pytest.raises(KeyError):
        Rotation().take()


places = st.tuples(st.sampled_from(("a", "b", None)), st.integers(1, 3))


@given(st.lists(st.tuples(st.sampled_from(("add", "take", "take_of", "discard")), places)))
def test_what_is_kept_is_what_was_added_and_neither_taken_nor_discarded(
    steps: list[tuple[str, tuple[str, int]]],
) -> None:
    rotation = Rotation()
    kept: list[Work] = []
    for step, (address, connection) in steps:
        of_it = [each for each in kept if each.address == address]
        if step == "add":
            kept.append(work(address, connection))
            rotation.add(kept[-1])
        elif step == "take" and kept:
            kept.remove(rotation.take())
        elif step == "take_of" and of_it:
            taken = rotation.take_of(address)
            # The oldest of its connection.
            assert taken is next(each for each in of_it if each.connection == taken.connection)
            kept.remove(taken)
        elif step == "discard" and of_it:
            kept.remove(of_it[-1])
            rotation.discard(of_it[-1])
            rotation.discard(of_it[-1])  # gone already
        assert len(rotation) == len(kept)
        assert rotation.count(address) == sum(each.address == address for each in kept)
        assert (address in rotation) == any(each.address == address for each in kept)
    assert sorted(map(id, kept)) == sorted(id(rotation.take()) for _ in kept)
