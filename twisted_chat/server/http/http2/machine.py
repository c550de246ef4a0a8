"""h2's state machine as this server sets it up."""

from __future__ import annotations

from typing import Final

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import Event
from h2.settings import SettingCodes, Settings

from twisted_chat.server.http.limits import HttpLimits

STREAM_WINDOW: Final = 65_535
"""Bytes that a client may send on a stream before they are used up."""

CONNECTION_WINDOW: Final = 1 << 20
"""The same for all streams of a connection together: what one client's unread data can take of memory."""


class _OpenUntilClosed(H2ConnectionStateMachine):
    """h2's, which takes a GOAWAY of either side for the end; by RFC 9113 section 6.8 open streams go on to theirs."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY):
            return []
        return super().process_input(input_)


def h2_connection(limits: HttpLimits) -> H2Connection:
    """A server's connection whose SETTINGS and window wait in `data_to_send`."""
    connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
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
    connection.decoder.max_header_list_size = 4 * limits.header_bytes
    connection.state_machine = _OpenUntilClosed()
    connection.initiate_connection()
    connection.increment_flow_control_window(CONNECTION_WINDOW - STREAM_WINDOW)
    return connection
