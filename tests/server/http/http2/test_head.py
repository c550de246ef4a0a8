from __future__ import annotations

import pytest

from twisted_chat.server.http.http2.head import AnswerHead, Field, request_head
from twisted_chat.server.http.limits import HttpLimits, Refused

LIMITS = HttpLimits()
GET: list[Field] = [
    (b":method", b"GET"),
    (b":path", b"/chat/x?since=1"),
    (b":scheme", b"https"),
    (b":authority", b"chat.test:8443"),
]


def with_field(name: bytes, value: bytes) -> list[Field]:
    """GET with one field more, or another value of a pseudo-header."""
    if name in dict(GET):
        return [(key, value if key == name else old) for key, old in GET]
    return [*GET, (name, value)]


def refusal_of(headers: list[Field], limits: HttpLimits = LIMITS, *, ended: bool = True) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        request_head(headers, limits, ended=ended)
    return caught.value.refusal.status, caught.value.refusal.code


def test_request() -> None:
    head = request_head(with_field(b"accept", b"*/*"), LIMITS, ended=True)
    assert (head.method, head.path, head.protocol, head.length) == (b"GET", b"/chat/x?since=1", None, 0)
    assert head.fields == [(b"host", b"chat.test:8443"), (b"accept", b"*/*")]
    assert not head.expects_continue


def test_authority_counts_and_host_is_not_doubled() -> None:
    head = request_head(with_field(b"host", b"chat.test:8443"), LIMITS, ended=True)
    assert head.fields == [(b"host", b"chat.test:8443")]


def test_host_alone_will_do() -> None:
    head = request_head([*GET[:3], (b"host", b"chat.test")], LIMITS, ended=True)
    assert head.fields == [(b"host", b"chat.test")]


def test_length_of_a_body() -> None:
    assert request_head(GET, LIMITS, ended=False).length is None
    assert request_head(with_field(b"content-length", b"12"), LIMITS, ended=False).length == 12
    assert request_head(with_field(b"expect", b"100-Continue"), LIMITS, ended=False).expects_continue


@pytest.mark.parametrize("ended", [True, False])
def test_other_expectations(ended: bool) -> None:
    assert refusal_of(with_field(b"expect", b"200-ok"), ended=ended) == (417, "expectation_failed")
    twice = [*with_field(b"expect", b"100-continue"), (b"expect", b"100-continue")]
    assert refusal_of(twice, ended=ended) == (417, "expectation_failed")


def test_extended_connect_has_no_body() -> None:
    headers = [(b":protocol", b"websocket"), *with_field(b":method", b"CONNECT")]
    head = request_head(headers, LIMITS, ended=False)
    assert (head.protocol, head.length) == (b"websocket", 0)


@pytest.mark.parametrize(
    "headers",
    [
        [(b":method", b"CONNECT"), (b":authority", b"db.test:5432")],
        [(b":protocol", b"connect-udp"), *with_field(b":method", b"CONNECT")],
    ],
)
def test_other_connects_are_not_implemented(headers: list[Field]) -> None:
    assert refusal_of(headers, ended=False) == (501, "not_implemented")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b":method", b"GE T"),
        (b":path", b"chat"),
        (b":path", b"*"),
        (b":path", b"/a b"),
        (b":path", b"/\x7f"),
        (b":path", "/ü".encode()),
        (b":scheme", b"ftp"),
        (b":authority", b"a/b"),
        (b":authority", b"user@chat.test"),
        (b":authority", b"chat.test:http"),
    ],
)
def test_malformed(name: bytes, value: bytes) -> None:
    assert refusal_of(with_field(name, value)) == (400, "malformed")


def test_options_may_ask_for_the_server() -> None:
    headers = [(b":method", b"OPTIONS"), (b":path", b"*"), *GET[2:]]
    assert request_head(headers, LIMITS, ended=True).path == b"*"


def test_limits() -> None:
    assert refusal_of(with_field(b"x", b"y" * 16_384)) == (431, "header_too_large")
    assert refusal_of([*GET, *[(b"x", b"y")] * 101]) == (431, "header_too_large")
    assert refusal_of(with_field(b":path", b"/" * 8_193)) == (414, "target_too_long")
    assert refusal_of(with_field(b"content-length", b"65537"), ended=False) == (413, "body_too_large")
    request_head(with_field(b"content-length", b"65536"), LIMITS, ended=False)


def test_each_field_counts_for_more_than_its_bytes() -> None:
    # GET's own four have 48 bytes of their own, and 128 more as fields.
    own = sum(len(name) + len(value) + 32 for name, value in GET)
    limits = HttpLimits(header_bytes=own + 32 + 2)
    request_head(with_field(b"x", b"y"), limits, ended=True)
    assert refusal_of(with_field(b"x", b"yy"), limits) == (431, "header_too_large")


def test_switching_protocols_becomes_200_without_what_http2_has_not() -> None:
    head = AnswerHead()
    whole = (
        b"HTTP/1.1 101 Switching Protocols\r\nServer: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: abc\r\n\r\n\x81\x02hi"
    )
    for index in range(len(whole) - 5):
        assert head.feed(whole[index : index + 1]) is None
    assert head.feed(whole[-5:]) == (
        [(b":status", b"200"), (b"server", b"x"), (b"sec-websocket-protocol", b"chat")],
        b"\x81\x02hi",
    )


def test_other_answers_keep_their_status() -> None:
    assert AnswerHead().feed(b"HTTP/1.1 503 maximum\r\n\r\n") == ([(b":status", b"503")], b"")
    assert AnswerHead().feed(b"HTTP/1.1 303\r\nLocation: /\r\n\r\n") == (
        [(b":status", b"303"), (b"location", b"/")],
        b"",
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02hi\r\n\r\n",
        b"HTTP/1.1 101 x\r\nno field\r\n\r\n",
        b"HTTP/1.1 101 x\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 101 x\r\n" + b"x: y\r\n" * 3_000,
    ],
)
def test_what_is_no_answer_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="handshake"):
        AnswerHead().feed(data)
