"""Our server in the benchmarks is the one that users start."""

from __future__ import annotations

from dataclasses import fields, replace

from benchmarks.contenders import LIMITS, twisted_chat
from twisted_chat.config import load
from twisted_chat.core.limits import Limits
from twisted_chat.options import Options

RAISED = {
    *("connections", "connections_per_address", "messages_per_connection", "messages_per_address"),
    *("requests_per_address", "new_rooms_per_address", "stored_bytes_per_address"),
}


def test_only_rates_and_counts_are_raised() -> None:
    config = load({}, {}, LIMITS)
    assert {
        each.name for each in fields(Limits) if getattr(config.limits, each.name) != getattr(Limits(), each.name)
    } == (RAISED)
    assert replace(config, limits=Limits()) == load({}, {})


def test_the_command_line_is_one_that_the_server_takes() -> None:
    command = twisted_chat("--history-count", "7", relay="memory:", endpoint="tls").command(8443)
    options = Options()
    options.parseOptions(command[command.index("chat") + 1 :])
    assert options.config.port == ("tls:8443:interface=127.0.0.1",)
    assert options.config.relay == ("memory:",)
    assert options.config.history_count == 7
