from __future__ import annotations

from hyperframe.frame import DataFrame, PingFrame, WindowUpdateFrame

from twisted_chat.server.http.http2.conduct import CRUMB, IDLE_FRAMES, RESETS, UPDATES_AT_ONCE, Conduct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UPDATE = WindowUpdateFrame(0, window_increment=1).serialize()


def make_conduct() -> Conduct:
    conduct = Conduct(0.0, 65_536, lambda _: False)
    assert conduct.bears(PREFACE, 0.0)
    return conduct


def test_frames_that_carry_something_are_not_limited() -> None:
    conduct = make_conduct()
    assert conduct.bears(DataFrame(1, b"x").serialize() * 10_000, 0.0)


def test_frames_that_carry_nothing_are() -> None:
    conduct = make_conduct()
    assert conduct.bears(PingFrame(0).serialize() * IDLE_FRAMES.burst, 0.0)
    assert not conduct.bears(PingFrame(0).serialize(), 0.0)
    assert conduct.bears(PingFrame(0).serialize(), 1.0)


def test_resets_are() -> None:
    conduct = make_conduct()
    assert all(conduct.bears_reset(0.0) for _ in range(RESETS.burst))
    assert not conduct.bears_reset(0.0)
    assert conduct.bears_reset(1.0)


def test_window_updates_that_answer_what_was_sent_are_not_limited() -> None:
    conduct = make_conduct()
    for _ in range(3_000):
        assert conduct.bears_sent(10, 0.0, cut=False)
        assert conduct.bears(UPDATE * 2, 0.0)
        assert conduct.bears_sent(16_384, 0.0, cut=True)
        assert conduct.bears(UPDATE * 18, 0.0)


def test_window_updates_for_nothing_are() -> None:
    conduct = make_conduct()
    assert conduct.bears(UPDATE * IDLE_FRAMES.burst, 0.0)
    assert not conduct.bears(UPDATE, 0.0)


def test_window_updates_cannot_be_saved_up() -> None:
    conduct = make_conduct()
    for _ in range(UPDATES_AT_ONCE):
        assert conduct.bears_sent(16_384, 0.0, cut=False)
    assert conduct.bears(UPDATE * (UPDATES_AT_ONCE + IDLE_FRAMES.burst), 0.0)
    assert not conduct.bears(UPDATE, 0.0)


def test_crumbs_between_longer_frames_are_not_limited() -> None:
    conduct = make_conduct()
    for _ in range(3 * IDLE_FRAMES.burst):
        assert conduct.bears_sent(16_320, 0.0, cut=True)
        assert conduct.bears_sent(64, 0.0, cut=True)


def test_windows_that_leave_room_for_crumbs_are_limited() -> None:
    conduct = make_conduct()
    assert all(conduct.bears_sent(1, 0.0, cut=True) for _ in range(IDLE_FRAMES.burst))
    assert not conduct.bears_sent(1, 0.0, cut=True)
    assert conduct.bears_sent(1, 0.0, cut=False)
    assert conduct.bears_sent(1, 1.0, cut=True)
    assert conduct.bears_sent(CRUMB, 1.0, cut=True)
