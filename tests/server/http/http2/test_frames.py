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
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.server.http.http2.frames import (
    MAX_FRAME_SIZE,
    FrameCutter,
    FrameMeter,
    Frames,
    FrameTooLarge,
    HeadTooLarge,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def make_meter(longest_head: int = 65_536, ended: frozenset[int] = frozenset()) -> FrameMeter:
    return FrameMeter(longest_head, ended.__contains__)


@given(sizes=st.lists(st.integers(0, 300), max_size=10), cut=st.integers(1, 50), extra=st.integers(1, 2**24 - 1))
def test_a_large_frame_is_found_wherever_it_starts(sizes: list[int], cut: int, extra: int) -> None:
    good = PREFACE + b"".join(DataFrame(1, b"x" * size).serialize() for size in sizes)
    meter = make_meter()
    for index in range(0, len(good), cut):
        meter.feed(good[index : index + cut])
    meter.feed(DataFrame(1, b"x" * MAX_FRAME_SIZE).serialize())
    large = min(MAX_FRAME_SIZE + extra, 2**24 - 1).to_bytes(3)
    meter.feed(large + b"\0\0\0\0\0")
    with pytest.raises(FrameTooLarge, match="16384 bytes"):
        meter.feed(b"\1")


def kinds(data: bytes) -> list[int]:
    found = []
    while data:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3]) :]
    return found


frames = st.one_of(
    st.builds(lambda size: HeadersFrame(1, b"h" * size, flags=["END_HEADERS"]), st.integers(0, 40)),
    st.builds(lambda size: DataFrame(1, b"\1" * size), st.integers(0, 300)),
    st.builds(lambda: PingFrame(0)),
)


@given(sent=st.lists(frames, max_size=20), most=st.integers(1, 3), piece=st.integers(1, 200))
def test_bytes_are_cut_behind_heads_however_they_come(sent: list[Frame], most: int, piece: int) -> None:
    data = PREFACE + b"".join(frame.serialize() for frame in sent)
    cutter, unread, parts = FrameCutter(), b"", []
    for at in range(0, len(data), piece):
        unread += data[at : at + piece]
        while unread:
            end = cutter.cut(unread, most, 1_000)
            assert end > 0
            part, unread = unread[:end], unread[end:]
            parts.append((part, bool(unread)))
    assert b"".join(part for part, _ in parts) == data
    read = b""
    for part, cut in parts:
        before, read = read, read + part
        if cut:
            # At the end of a frame, behind as many heads as may be read, of which none began before that.
            heads = kinds(read[len(PREFACE) :]).count(1)
            assert heads - whole_heads(before) == most


@given(sent=st.lists(frames, max_size=20), most=st.integers(1, 5), piece=st.integers(1, 200))
def test_bytes_are_cut_behind_frames_of_any_kind(sent: list[Frame], most: int, piece: int) -> None:
    data = PREFACE + b"".join(frame.serialize() for frame in sent)
    cutter, unread, parts = FrameCutter(), b"", []
    for at in range(0, len(data), piece):
        unread += data[at : at + piece]
        while unread:
            end = cutter.cut(unread, 1_000, most)
            part, unread = unread[:end], unread[end:]
            parts.append(part)
    assert b"".join(parts) == data
    read = b""
    for part in parts:
        before, read = read, read + part
        assert begun(read) - begun(before) <= most


def begun(data: bytes) -> int:
    """How many frames began, with all nine bytes of what announces them, in `data`."""
    data, count = data[len(PREFACE) :], 0
    while len(data) >= 9:
        count += 1
        data = data[9 + int.from_bytes(data[:3]) :]
    return count


def whole_heads(data: bytes) -> int:
    """How many frames with heads began, with all nine bytes of what announces them, in `data`."""
    data, count = data[len(PREFACE) :], 0
    while len(data) >= 9:
        count += data[3] == 1
        data = data[9 + int.from_bytes(data[:3]) :]
    return count


def test_nothing_is_fed() -> None:
    meter = make_meter()
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
        (SettingsFrame(0, dict.fromkeys(range(100), 0)), 10),
        (PriorityFrame(1, depends_on=3), 1),
        (RstStreamFrame(1), 1),
        (ExtensionFrame(0x10, 1), 1),
        (DataFrame(1), 1),
        (DataFrame(1, pad_length=200, flags=["PADDED"]), 1),
        (DataFrame(1, b"x" * 300, pad_length=200, flags=["PADDED"]), 0),
        (DataFrame(1, flags=["END_STREAM"]), 0),
        (DataFrame(1, b"x"), 0),
        (HeadersFrame(1, b"x"), 0),
        (ContinuationFrame(1, b"x"), 0),
        (WindowUpdateFrame(1, 1), 0),
        (DataFrame(9, b"x"), 1),
        (HeadersFrame(9, b"x"), 1),
        (ContinuationFrame(9, b"x"), 1),
    ],
)
def test_frames_that_only_make_work_are_counted(frame: Frame, idle: int) -> None:
    meter = make_meter(ended=frozenset({9}))
    assert meter.feed(PREFACE) == Frames()
    assert meter.feed(frame.serialize() * 3).idle == 3 * idle


def test_window_updates_are_counted() -> None:
    meter = make_meter()
    assert meter.feed(PREFACE + WindowUpdateFrame(1, 1).serialize() * 3) == Frames(window_updates=3)


@pytest.mark.parametrize("last", [HeadersFrame(3, b"x" * 1_001), ContinuationFrame(1, b"x" * 2)])
def test_a_large_head_is_found_before_it_is_here(last: Frame) -> None:
    meter = make_meter(longest_head=1_000)
    meter.feed(PREFACE)
    meter.feed(HeadersFrame(1, b"x" * 1_000).serialize())
    meter.feed(HeadersFrame(1, b"x" * 500).serialize() + ContinuationFrame(1, b"x" * 499).serialize())
    with pytest.raises(HeadTooLarge, match="1000 bytes"):
        meter.feed(last.serialize()[:9])
