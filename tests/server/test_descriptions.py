"""How a description is taken apart; what is wrong with one is in test_endpoints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from twisted_chat.server.descriptions import BACKLOG, Description, EndpointError, for_twisted, is_number


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("tcp:80", [(None, "tcp"), (None, "80")]),
        ("tcp:80:interface=::1", [(None, "tcp"), (None, "80"), ("interface", ""), (None, ""), (None, "1")]),
        (r"tcp:80:interface=\:\:1", [(None, "tcp"), (None, "80"), ("interface", "::1")]),
        ("unix:address=/a=b", [(None, "unix"), ("address", "/a=b")]),
        (r"unix:/a\=b\\c", [(None, "unix"), (None, r"/a=b\c")]),
        ("", [(None, "")]),
        ("tcp:80\\", [(None, "tcp"), (None, "80")]),
    ],
)
def test_split(text: str, arguments: list[tuple[str | None, str]]) -> None:
    assert Description(text).split() == arguments


def test_arguments_get_their_names() -> None:
    description = Description("")
    backlog = str(BACKLOG)
    assert description.bind("tcp", [(None, "80"), (None, "127.0.0.1")]) == {
        "port": "80",
        "interface": "127.0.0.1",
        "backlog": backlog,
    }
    assert description.bind("tcp6", [(None, "80"), (None, "5")]) == {"port": "80", "backlog": "5"}
    assert description.bind("unix", [("mode", "660"), (None, "/a")]) == {
        "mode": "660",
        "address": "/a",
        "backlog": backlog,
    }
    assert description.bind("systemd", [("domain", "INET"), ("index", "0")]) == {"domain": "INET", "index": "0"}


def test_an_error_is_one_line() -> None:
    error = Description("tcp:x").error("'x' is not a port", "tcp")
    assert isinstance(error, EndpointError)
    assert str(error) == "cannot listen on 'tcp:x': 'x' is not a port; right would be tcp:8080:interface=127.0.0.1"


@pytest.mark.parametrize(("text", "number"), [("0", True), ("80", True), ("", False), ("-1", False), ("٣", False)])
def test_is_number(text: str, number: bool) -> None:
    assert is_number(text) is number


@given(st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1))
def test_what_is_written_for_twisted_is_read_by_it_as_it_was(path: str) -> None:
    reactor = MemoryReactor()
    serverFromString(reactor, for_twisted("unix", {"address": path, "backlog": "7"})).listen(Factory())
    assert [(server[0], server[2]) for server in reactor.unixServers] == [(path, 7)]
    assert Description(for_twisted("unix", {"address": path})).split() == [(None, "unix"), ("address", path)]
