from __future__ import annotations

import pytest

from tests.server.http.writer import Writer
from twisted_chat.server.http.http2.pacing import HIGH_WATER, LOW_WATER, Pacer


def test_push_producer_is_paused_above_high_water_and_resumed_below_low_water() -> None:
    pacer, producer = Pacer(), Writer()
    pacer.register(producer, True)
    for waiting in (HIGH_WATER, HIGH_WATER + 1, HIGH_WATER + 2, LOW_WATER + 1, LOW_WATER, 0):
        pacer.check(waiting, blocked=False)
    assert producer.calls == ["pause", "resume"]


def test_blocked_pauses_a_push_producer_once_something_waits() -> None:
    pacer, producer = Pacer(), Writer()
    pacer.register(producer, True)
    pacer.check(0, blocked=True)
    assert producer.calls == []
    pacer.check(1, blocked=True)
    pacer.check(0, blocked=True)
    assert producer.calls == ["pause"]
    pacer.check(0, blocked=False)
    assert producer.calls == ["pause", "resume"]


def test_pull_producer_is_asked_when_nothing_waits() -> None:
    pacer, producer = Pacer(), Writer()
    pacer.register(producer, False)
    pacer.check(0, blocked=False)
    pacer.check(1, blocked=False)
    pacer.check(0, blocked=True)
    assert producer.calls == ["resume"]
    assert not pacer.streaming


def test_stop_tells_the_producer_once() -> None:
    pacer, producer = Pacer(), Writer()
    pacer.register(producer, True)
    assert pacer.streaming
    pacer.stop()
    pacer.stop()
    pacer.check(HIGH_WATER + 1, blocked=False)
    assert producer.calls == ["stop"]


def test_second_producer_is_an_error() -> None:
    pacer = Pacer()
    pacer.register(Writer(), True)
    with pytest.raises(RuntimeError, match="registered already"):
        pacer.register(Writer(), True)
    pacer.unregister()
    pacer.register(Writer(), True)
