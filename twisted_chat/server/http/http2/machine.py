"""h2's state machine as this server sets it up."""

from __future__ import annotations

from typing import Final

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import Event
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

from twisted_chat.server.http.http2.frames import MAX_FRAME_SIZE
from twisted_chat.server.http.limits import HttpLimits

STREAM_WINDOW: Final = 65_535
"""Bytes that a client may send on a stream before they are used up."""

CONNECTION_WINDOW: Final = 1 << 20
"""The same for all streams of a connection together: what one client's unread data can take of memory."""

HEADER_TABLE: Final = 4_096
"""Bytes of the table with which heads are compressed; the client may ask for less, not for more."""

REMEMBERED_STREAMS: Final = 1_024
"""Ended streams of which h2 knows how they ended; a frame on an older one is an error of the connection."""

_KNOWN: Final = frozenset(map(int, SettingCodes))
_MOST: Final = {SettingCodes.HEADER_TABLE_SIZE: HEADER_TABLE, SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE}


class _Connection(H2Connection):
    # h2 would keep 64 Ki of them for each connection, which is 8 MB.
    MAX_CLOSED_STREAMS = REMEMBERED_STREAMS
    _look_again_at = 0

    @property
    def open_inbound_streams(self) -> int:
        """At least so many; exactly, once the limit may be reached.

        h2 looks at every stream whenever one is opened, to count them and to forget those that have ended. That is
        soon enough when a quarter more are there than last time.
        """
        known = len(self.streams)
        if known < min(self._look_again_at, self.local_settings.max_concurrent_streams):
            return known
        count: int = super().open_inbound_streams
        self._look_again_at = count + count // 4 + 1
        return count


class _Frames(FrameBuffer):
    """h2's, with frames that do not tell what is in them.

    h2 writes down every frame for its log, also when it has none: the whole of a body, in hexadecimal, which takes
    twice as long as all else that it does with it.
    """

    def __next__(self) -> Frame:
        frame = super().__next__()
        frame.serialize_body = bytes  # type: ignore[method-assign]  # of this one only, which is never sent
        return frame


class _ClientSettings(Settings):
    """What a client asks for, as far as it is to have it.

    h2 would keep every number that it is told, known or not, fill a table of 4 GiB, and send a frame of 16 MiB while
    other streams wait.
    """

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        # RFC 9113 section 6.5.2: unknown settings are ignored.
        if key not in _KNOWN:
            return
        if key in _MOST:
            value = min(value, _MOST[SettingCodes(key)])
        if key == SettingCodes.HEADER_TABLE_SIZE:
            # Once smaller it stays so: h2 keeps each change for the next head, however long there is none.
            value = min(value, self.header_table_size)
        super().__setitem__(key, value)


class _OpenUntilClosed(H2ConnectionStateMachine):
    """h2's, which takes a GOAWAY of either side for the end; by RFC 9113 section 6.8 open streams go on to theirs."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY):
            return []
        return super().process_input(input_)


def h2_connection(limits: HttpLimits) -> H2Connection:
    """A server's connection whose SETTINGS and window wait in `data_to_send`."""
    # Heads are made as they have to be in `head`; h2 still looks whether they are.
    config = H2Configuration(client_side=False, header_encoding=None, normalize_outbound_headers=False)
    connection = _Connection(config)
    connection.incoming_buffer = _Frames(server=True)
    connection.remote_settings = _ClientSettings(client=True)
    # What is set before the connection is initiated goes into the first SETTINGS, and counts at once.
    connection.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        },
    )
    # A head that is somewhat too large is answered, and only one far beyond it ends the connection.
    connection.decoder.max_header_list_size = longest_head(limits)
    connection.state_machine = _OpenUntilClosed()
    connection.initiate_connection()
    connection.increment_flow_control_window(CONNECTION_WINDOW - STREAM_WINDOW)
    # The client was told another number. One stream more than that is an error of the stream, for which the channel
    # cares (RFC 9113 section 5.1.2); h2 would make it one of the connection.
    connection.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 2 * limits.streams
    connection.local_settings.acknowledge()
    return connection


def longest_head(limits: HttpLimits) -> int:
    """Bytes, compressed or not, of a head that is still looked at, to refuse it with an answer."""
    return 4 * limits.header_bytes
