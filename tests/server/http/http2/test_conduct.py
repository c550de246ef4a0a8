from __future__ import annotations

from hyperframe.frame import DataFrame, PingFrame

from twisted_chat.server.http.http2.conduct import IDLE_FRAMES, RESETS, Conduct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def test_frames_that_carry_something_are_not_limited() -> None:
    conduct = Conduct(0.0)
    assert conduct.bears(PREFACE, 0.0)
    assert conduct.bears(DataFrame(1, b"x").serialize() * 10_000, 0.0)


def test_frames_that_carry_nothing_are() -> None:
    conduct = Conduct(0.0)
    assert conduct.bears(PREFACE + PingFrame(0).serialize() * IDLE_FRAMES.burst, 0.0)
    assert not conduct.bears(PingFrame(0).serialize(), 0.0)
    assert conduct.bears(PingFrame(0).serialize(), 1.0)


def test_resets_are() -> None:
    conduct = Conduct(0.0)
    assert all(conduct.bears_reset(0.0) for _ in range(RESETS.burst))
    assert not conduct.bears_reset(0.0)
    assert conduct.bears_reset(1.0)
