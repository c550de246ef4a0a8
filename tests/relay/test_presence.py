"""Presence and signals of a single process; what is true of any relay stands in ``test_contract.py``."""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from tests.conftest import LoggedFailures
from tests.relay.conftest import Events
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.interface import RelayEvents
from twisted_chat.relay.presence import LocalPresence


class Local(LocalPresence):
    def open(self, events: RelayEvents) -> None:
        self._open(events)

    def close(self) -> None:
        self._close()

    def rooms_kept(self) -> int:
        return len(self._present)

    def handles(self, room: str) -> tuple[str, ...]:
        found: list[tuple[str, ...]] = []
        self.present(room).addCallback(found.append)
        [handles] = found
        return handles


@pytest.fixture
def local(events: Events) -> Local:
    local = Local()
    local.open(events)
    local.subscribe("r")
    return local


def test_everything_happens_within_the_call(local: Local, events: Events) -> None:
    local.enter("r", "a", "ann")
    local.signal("r", b"typing")
    local.leave("r", "a")
    assert events.presence == [("r", "joined", "ann"), ("r", "left", "ann")]
    assert events.signals == [("r", b"typing")]


def test_a_handle_keeps_its_place_while_anyone_has_it(local: Local) -> None:
    local.enter("r", "a1", "ann")
    local.enter("r", "b", "bob")
    local.enter("r", "a2", "ann")
    local.leave("r", "a1")
    assert local.handles("r") == ("ann", "bob")
    local.leave("r", "a2")
    local.enter("r", "a3", "ann")
    assert local.handles("r") == ("bob", "ann")


def test_renaming_leaves_before_it_joins(local: Local, events: Events) -> None:
    local.enter("r", "a", "ann")
    local.enter("r", "a", "anna")
    assert events.presence == [("r", "joined", "ann"), ("r", "left", "ann"), ("r", "joined", "anna")]


def test_renaming_to_and_from_a_handle_that_others_have_is_silent(local: Local, events: Events) -> None:
    local.enter("r", "a", "ann")
    local.enter("r", "b", "ann")
    local.enter("r", "c", "bob")
    events.presence.clear()
    local.enter("r", "b", "bob")
    assert events.presence == []
    assert local.handles("r") == ("ann", "bob")


def test_who_is_told_sees_what_it_was_told_about(local: Local, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []
    for call in ("joined", "left"):
        monkeypatch.setattr(events, call, lambda room, _: seen.append(local.handles(room)))
    local.enter("r", "a", "ann")
    local.enter("r", "a", "anna")
    local.leave("r", "a")
    assert seen == [("ann",), ("anna",), ("anna",), ()]


def test_a_member_may_be_in_several_rooms(local: Local) -> None:
    local.enter("r", "a", "ann")
    local.enter("s", "a", "ann at s")
    local.leave("r", "a")
    assert (local.handles("r"), local.handles("s")) == ((), ("ann at s",))


def test_a_room_is_forgotten_with_its_last_member(local: Local) -> None:
    local.leave("never", "a")
    local.enter("r", "a", "ann")
    local.enter("r", "b", "ann")
    local.leave("r", "a")
    assert local.rooms_kept() == 1
    local.leave("r", "b")
    assert local.rooms_kept() == 0


def test_one_that_raises_does_not_stop_the_rest(
    local: Local, events: Events, logged_failures: LoggedFailures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(events, "signal", fail)
    monkeypatch.setattr(events, "joined", fail)
    local.signal("r", b"typing")
    local.enter("r", "a", "ann")
    assert local.handles("r") == ("ann",)
    assert len(logged_failures.flush(ZeroDivisionError)) == 2


def test_before_the_start_and_after_the_end_nothing_is_kept(events: Events) -> None:
    local = Local()
    local.enter("r", "a", "ann")
    local.leave("r", "a")
    local.open(events)
    assert local.handles("r") == ()
    local.subscribe("r")
    local.enter("r", "b", "bob")
    local.close()
    local.leave("r", "b")
    local.subscribe("r")
    local.enter("r", "c", "cat")
    local.signal("r", b"typing")
    refused: list[Failure] = []
    local.present("r").addErrback(refused.append)
    error = refused[0].value
    assert isinstance(error, ChatError)
    assert error.reason is Reason.TRY_AGAIN
    assert events.presence == [("r", "joined", "bob")]
    assert events.signals == []
