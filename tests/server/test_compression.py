"""Compressed once for all who negotiated it, and nothing kept between messages."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from twisted_chat.server.connection import Connections
from twisted_chat.server.websocket import RoomSocketFactory

TEXT = "the same words, " * 30


@pytest.fixture
def plain_server(make_server: Any) -> Any:
    """Without ``--compression``."""
    return make_server()


@pytest.fixture
def server(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With ``--compression``."""
    connections: Connections = server.connections
    sockets = RoomSocketFactory(connections, compression=True)
    monkeypatch.setattr(server.sockets, "_socket", sockets._socket)
    return server


def connect(server: Any, offer: str = "permessage-deflate; client_max_window_bits") -> Any:
    return server.connect(headers=f"Sec-WebSocket-Extensions: {offer}\r\n")


def deflated(text: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


def say_compressed(peer: Any, payload: bytes) -> None:
    peer.say(payload, opcode=0x41)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        (
            "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            'permessage-deflate; client_max_window_bits="10"; server_max_window_bits="15"',
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=8, permessage-deflate; x=1, permessage-deflate",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        ("permessage-deflate; server_max_window_bits=11", None),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=8; client_max_window_bits=8", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        (";;,,=", None),
        ("x-webkit-deflate-frame", None),
    ],
)
def test_what_is_offered_and_what_is_answered(server: Any, offer: str, answer: str | None) -> None:
    assert connect(server, offer).answer.headers.get("sec-websocket-extensions") == answer


@pytest.mark.parametrize(
    "offer", ["permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=99", ";;,,="]
)
def test_an_offer_that_is_not_taken_is_declined(plain_server: Any, offer: str) -> None:
    peer = connect(plain_server, offer)
    assert peer.answer.status == 101
    assert "sec-websocket-extensions" not in peer.answer.headers
    plain_server.post({"handle": "ann", "message": "hi"})
    assert peer.messages() == ["hi"]


def test_one_frame_is_for_all_who_negotiated_it(server: Any) -> None:
    ann, bob, plain = connect(server), connect(server), server.connect()
    say_compressed(ann, deflated(json.dumps({"handle": "ann", "message": TEXT}).encode()))
    ((first, to_ann),), ((_, to_bob),) = raw_frames(ann), raw_frames(bob)
    assert first == 0xC1
    assert to_ann == to_bob
    message = zlib.decompressobj(-15).decompress(to_ann + b"\0\0\xff\xff")
    assert json.loads(message)["message"] == TEXT
    assert plain.messages() == [TEXT]
    value = server.metrics.registry.get_sample_value
    before, after = (value("twisted_chat_compression_bytes_total", {"stage": stage}) for stage in ("before", "after"))
    assert before == len(message)
    assert after == 2 + len(to_ann), "the frame, with its head"


def raw_frames(peer: Any) -> list[tuple[int, bytes]]:
    """The first byte and the payload of each."""
    data, found = peer.received(), []
    while data:
        size, begin = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        found.append((data[0], data[begin : begin + size]))
        data = data[begin + size :]
    return found


def test_nothing_is_kept_of_a_message(server: Any) -> None:
    ann = connect(server)
    for _ in range(2):
        say_compressed(ann, deflated(json.dumps({"handle": "ann", "message": TEXT}).encode()))
    (socket,) = server.sockets.members("lobby")
    assert socket._perMessageCompress._decompressor is None
    assert socket._perMessageCompress._compressor is None
    assert len(raw_frames(ann)) == 2


def test_what_inflates_beyond_the_longest_message_is_refused(server: Any) -> None:
    ann = connect(server)
    say_compressed(ann, deflated(b"a" * 50_000_000))
    ann.heard()
    assert ann.close_code == 1009


def test_what_cannot_be_inflated_ends_the_connection(server: Any) -> None:
    ann = connect(server)
    say_compressed(ann, b"\xff\xff\xff")
    ann.heard()
    assert ann.close_code == 1007


def test_it_is_off_unless_asked_for(make_server: Any) -> None:
    server = make_server()
    peer = connect(server)
    assert "sec-websocket-extensions" not in peer.answer.headers
    say_compressed(peer, deflated(b"{}"))
    peer.heard()
    assert peer.close_code == 1002
