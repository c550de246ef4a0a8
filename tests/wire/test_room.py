"""The room protocol: what clients send is taken or refused with a reason, what they are sent can be read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.limits import Limits
from twisted_chat.core.publication import Position, Publication
from twisted_chat.wire import room

LIMITS = Limits()


def refused(text: bytes) -> ChatError:
    with pytest.raises(ChatError) as caught:
        room.decode(text, LIMITS)
    return caught.value


# Inbound


def test_a_message() -> None:
    assert room.decode(b'{"handle": " ann ", "message": "hi", "key": "k1"}', LIMITS) == room.Publish("ann", "hi", "k1")


def test_what_the_protocol_does_not_know_is_ignored() -> None:
    assert room.decode(b'{"message": "hi", "colour": {"r": [1, null]}}', LIMITS) == room.Publish(None, "hi", None)


def test_typing() -> None:
    assert room.decode(b'{"typing": true, "handle": "ann"}', LIMITS) == room.Typing("ann")


def test_null_is_as_good_as_absent_where_absent_is_allowed() -> None:
    assert room.decode(b'{"handle": null, "message": "hi", "key": null}', LIMITS) == room.Publish(None, "hi", None)


@pytest.mark.parametrize(
    ("text", "reason", "complaint"),
    [
        (b"", Reason.BAD_JSON, "not JSON"),
        (b"hello", Reason.BAD_JSON, "not JSON"),
        (b'{"message": "hi"', Reason.BAD_JSON, "at character"),
        (b"\xff\xfe{}", Reason.BAD_JSON, "not UTF-8: byte 0"),
        ('{"message": "hi"}'.encode("utf-16"), Reason.BAD_JSON, "not UTF-8"),
        (b'["message"]', Reason.BAD_JSON, "this is a list; send a JSON object"),
        (b'"hi"', Reason.BAD_JSON, "this is a string"),
        (b"null", Reason.BAD_JSON, "this is a null"),
        (b"[" * 60_000, Reason.BAD_JSON, "nested too deeply"),
        (b'{"a":' * 9_000, Reason.BAD_JSON, "nested too deeply"),
        (b"1" * 5_000, Reason.BAD_JSON, "too many digits"),
        (b'{"message": NaN}', Reason.BAD_JSON, "NaN is not JSON"),
        (b'{"message": "a", "message": "b"}', Reason.BAD_JSON, "stands twice"),
        (b'{"message": "a", "x": {"y": 1, "y": 2}}', Reason.BAD_JSON, "stands twice"),
        (b"{}", Reason.BAD_MESSAGE, '"message" is missing'),
        (b'{"message": 7}', Reason.BAD_MESSAGE, '"message" is a number'),
        (b'{"message": null}', Reason.BAD_MESSAGE, '"message" is a null'),
        (b'{"message": {}}', Reason.BAD_MESSAGE, '"message" is a object'),
        (b'{"message": " \\n "}', Reason.BAD_MESSAGE, "only white space"),
        (b'{"message": "a\\u0000b"}', Reason.BAD_MESSAGE, "U+0000"),
        (b'{"message": "\\ud800"}', Reason.BAD_MESSAGE, "surrogate"),
        (b'{"handle": 7, "message": "hi"}', Reason.BAD_HANDLE, '"handle" is a number'),
        (b'{"handle": "", "message": "hi"}', Reason.BAD_HANDLE, "may not be empty"),
        (b'{"message": "hi", "key": 7}', Reason.BAD_KEY, '"key" is a number'),
        (b'{"message": "hi", "key": ""}', Reason.BAD_KEY, "may not be empty"),
        (b'{"typing": "yes"}', Reason.BAD_MESSAGE, '"message" is missing'),
    ],
)
def test_what_is_wrong_is_said(text: bytes, reason: Reason, complaint: str) -> None:
    error = refused(text)
    assert error.reason is reason
    assert complaint in error.message


def test_too_long_says_how_long() -> None:
    error = refused(json.dumps({"handle": "ann", "message": "x" * 5210, "key": "k"}).encode())
    assert error.reason is Reason.MESSAGE_TOO_LONG
    assert error.message == "a message may have 4096 characters, this one has 5210"
    assert error.key == "k", "so that the client knows which of its messages is meant"


def test_an_error_repeats_no_key_that_is_no_key() -> None:
    assert refused(json.dumps({"message": 1, "key": "k" * 65}).encode()).key is None
    assert refused(json.dumps({"message": 1, "key": "a\nb"}).encode()).key is None
    assert refused(b'{"message": 1, "key": [1]}').key is None


def test_the_longest_message_in_its_widest_writing_fits_a_frame() -> None:
    widest = {"handle": "\U0001f600" * 64, "message": "\U0001f600" * 4096, "key": "\U0001f600" * 64}
    text = json.dumps(widest).encode()
    assert len(text) <= LIMITS.frame_bytes
    assert room.decode(text, LIMITS) == room.Publish(**widest)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_else(text: bytes) -> None:
    with contextlib.suppress(ChatError):
        room.decode(text, LIMITS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries({}, optional={"handle": JSON, "message": JSON, "key": JSON, "typing": JSON, "x": JSON})


@given(FIELDS)
def test_no_json_does_anything_else(fields: dict[str, Any]) -> None:
    text = json.dumps(fields).encode()
    try:
        command = room.decode(text, LIMITS)
    except ChatError:
        return
    if isinstance(command, room.Publish):
        assert command.message == fields["message"]
        assert command.key == fields.get("key")
        assert command.handle == (fields["handle"].strip() if fields.get("handle") is not None else None)


# Outbound

TEXT = st.text(st.characters(codec="utf-8"))


@given(TEXT, TEXT, st.none() | TEXT, st.integers(1, 10**9), st.integers(0, 4 * 10**15))
def test_a_publication_can_be_read(handle: str, message: str, key: str | None, offset: int, tag: int) -> None:
    publication = Publication(Position("e", offset, tag), 0, room.compose(handle, message, key))
    fields = json.loads(room.message(publication))
    assert fields.pop("id") == f"e-{offset}-{tag}"
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"handle": handle, "message": message} | ({} if key is None else {"key": key})


def test_the_timestamp_is_the_time_of_storing() -> None:
    assert room.timestamp(1_763_796_000_123_456) == "2025-11-22T07:20:00.123456Z"
    assert room.timestamp(1_763_796_000_000_000) == "2025-11-22T07:20:00.000000Z"


def test_events() -> None:
    at = Position("e", 2, 3)
    assert json.loads(room.joined("ann")) == {"event": "join", "handle": "ann"}
    assert json.loads(room.left("ann")) == {"event": "leave", "handle": "ann"}
    assert json.loads(room.typing("ann")) == {"event": "typing", "handle": "ann"}
    assert json.loads(room.presence(("ann", "bob"))) == {"event": "presence", "members": ["ann", "bob"]}
    assert json.loads(room.presence(("ann", "\u0430nn"))) == {
        "event": "presence",
        "members": ["ann", "\u0430nn"],
        "skeletons": {"\u0430nn": "ann"},
    }
    assert json.loads(room.joined("\u0430nn")) == {"event": "join", "handle": "\u0430nn", "skeleton": "ann"}
    assert json.loads(room.heartbeat(25.0)) == {"event": "heartbeat", "seconds": 25.0}
    assert json.loads(room.reset(at)) == {"event": "reset", "position": "e-2-3"}
    limits = Limits(history_page=20, message_characters=100)
    assert json.loads(room.ready(at, None, writable=False, limits=limits)) == {
        "event": "ready",
        "position": "e-2-3",
        "handle": None,
        "writable": False,
        "limits": {"history_page": 20, "message_characters": 100, "handle_characters": 64, "key_characters": 64},
    }


def test_errors_carry_the_key_where_there_is_one() -> None:
    error = ChatError(Reason.RATE_LIMITED, "slower")
    assert json.loads(room.error(error)) == {"error": {"code": "rate_limited", "message": "slower"}}
    error.key = "k"
    assert json.loads(room.error(error))["error"]["key"] == "k"


TEXTS = st.text(st.characters() | st.sampled_from('"\\\n\t\x00\u2028\u202e\ud800é😀 '), max_size=8)
VALUES = TEXTS | st.none() | st.booleans() | st.integers() | st.lists(TEXTS, max_size=2)
NAMES = st.sampled_from(["handle", "message", "message", "key", "typing", "other"])


def written(name: str, value: object, ascii_only: bool) -> str:
    return f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=ascii_only)}"


@given(st.lists(st.tuples(NAMES, TEXTS | VALUES, st.booleans()), max_size=4), st.sampled_from(["", " ", "\n"]))
def test_the_quick_way_takes_what_the_slow_way_takes_and_nothing_else(
    members: list[tuple[str, object, bool]], space: str
) -> None:
    text = "{" + f",{space}".join(written(*member) for member in members) + "}" + space

    def result(read: Callable[[bytes, Limits], room.Command]) -> object:
        try:
            return read(data, LIMITS)
        except ChatError as error:
            return error.reason, error.message, error.key

    data = text.encode("utf-8", "surrogatepass")
    assert result(room.decode) == result(room._slowly)


@pytest.mark.parametrize(
    "text",
    [
        b'{"message":"a","message":"b"}',
        b'{"message":"a","m\\u0065ssage":"b"}',
        b'{"handle":"a\\\\","message":"b\\\\","handle":"c"}',
        b'{"handle":"a\\"","message":"b","message":"c"}',
    ],
)
def test_one_name_twice_is_refused_the_quick_way_too(text: bytes) -> None:
    with pytest.raises(ChatError, match="the same name stands twice"):
        room.decode(text, LIMITS)


@pytest.mark.parametrize("text", ['{"handle":"ann","message":"a \\"b\\" c"}', '{ "message" : "é\\n" , "key" : "k" }'])
def test_usual_messages_are_read_the_quick_way(text: str) -> None:
    assert room._quickly(text.encode(), LIMITS) == room._slowly(text.encode(), LIMITS)
