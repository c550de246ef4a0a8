from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twisted_chat.server.http.http2.frames import MAX_FRAME_SIZE, FrameMeter, FrameTooLarge

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sizes=st.lists(st.integers(0, 300), max_size=10), cut=st.integers(1, 50), extra=st.integers(1, 2**24 - 1))
def test_a_large_frame_is_found_wherever_it_starts(sizes: list[int], cut: int, extra: int) -> None:
    good = PREFACE + b"".join(DataFrame(1, b"x" * size).serialize() for size in sizes)
    meter = FrameMeter()
    for index in range(0, len(good), cut):
        meter.feed(good[index : index + cut])
    meter.feed(DataFrame(1, b"x" * MAX_FRAME_SIZE).serialize())
    large = min(MAX_FRAME_SIZE + extra, 2**24 - 1).to_bytes(3)
    meter.feed(large + b"\0\0\0\0\0")
    with pytest.raises(FrameTooLarge, match="16384 bytes"):
        meter.feed(b"\1")


def test_nothing_is_fed() -> None:
    meter = FrameMeter()
    meter.feed(b"")
    meter.feed(PREFACE)
    meter.feed(b"")
    with pytest.raises(FrameTooLarge):
        meter.feed(b"\xff" * 9)


@pytest.mark.parametrize(
    ("frame", "idle"),
    [
        (PingFrame(0), 1),
        (SettingsFrame(0, {1: 0}), 1),
        (PriorityFrame(1, depends_on=3), 1),
        (RstStreamFrame(1), 1),
        (ExtensionFrame(0x10, 1), 1),
        (DataFrame(1), 1),
        (DataFrame(1, flags=["END_STREAM"]), 0),
        (DataFrame(1, b"x"), 0),
        (HeadersFrame(1, b"x"), 0),
        (ContinuationFrame(1, b"x"), 0),
        (WindowUpdateFrame(1, 1), 0),
    ],
)
def test_frames_that_only_make_work_are_counted(frame: Frame, idle: int) -> None:
    meter = FrameMeter()
    assert meter.feed(PREFACE) == 0
    assert meter.feed(frame.serialize() * 3) == 3 * idle
