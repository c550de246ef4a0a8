from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from h2.events import PingReceived, RemoteSettingsChanged
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame, PingFrame, SettingsFrame

from twisted_chat.server.http.http2.conduct import IDLE_FRAMES, Conduct
from twisted_chat.server.http.http2.intake import Offence, receive
from twisted_chat.server.http.http2.machine import h2_connection, longest_head
from twisted_chat.server.http.limits import HttpLimits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
LIMITS = HttpLimits()


class Intake:
    def __init__(self) -> None:
        self.h2 = h2_connection(LIMITS)
        self.conduct = Conduct(0.0, longest_head(LIMITS), lambda _: False)

    def take(self, *frames: Frame) -> list[type]:
        data = b"".join(frame.serialize() for frame in frames)
        return [type(event) for event in receive(self.h2, self.conduct, data, 0.0)]


@pytest.fixture
def intake() -> Intake:
    intake = Intake()
    events = receive(intake.h2, intake.conduct, PREFACE, 0.0)
    assert [type(event) for event in events] == [RemoteSettingsChanged]
    return intake


def test_events_come_through(intake: Intake) -> None:
    assert intake.take(PingFrame(0), PingFrame(0)) == [PingReceived, PingReceived]


@pytest.mark.parametrize(
    ("frames", "reason", "code"),
    [
        ([PingFrame(0)] * IDLE_FRAMES.burst, "h2_abuse", ErrorCodes.ENHANCE_YOUR_CALM),
        ([DataFrame(1, b"x" * 16_385)], "malformed", ErrorCodes.FRAME_SIZE_ERROR),
        ([HeadersFrame(1), *[ContinuationFrame(1, b"x" * 16_384)] * 5], "h2_abuse", ErrorCodes.ENHANCE_YOUR_CALM),
        ([DataFrame(1, b"x")], "malformed", None),
    ],
    ids=["too many frames", "a frame too large", "a head too large", "what h2 refuses"],
)
def test_offences(intake: Intake, frames: list[Frame], reason: str, code: ErrorCodes | None) -> None:
    intake.h2.clear_outbound_data_buffer()
    with pytest.raises(Offence) as raised:
        intake.take(*frames)
    assert (raised.value.reason, raised.value.code) == (reason, code)
    # Where there is no code h2 has made the GOAWAY.
    assert bool(intake.h2.data_to_send()) == (code is None)
