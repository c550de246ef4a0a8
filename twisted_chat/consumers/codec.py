"""The contents of messages as bytes, for queues and relays: JSON, in which bytes are an object of their own.

What cannot be carried is refused where it is sent, in a single process just as on the way to another one.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any, Final

_BYTES: Final = "\x00bytes"
_MARK: Final = rb'"\u0000bytes"'


def encode(value: Any) -> bytes:
    """`value`, of what JSON knows and bytes, as JSON. Raises `TypeError`, saying what cannot be carried."""
    try:
        text = _ENCODER.encode(value)
    except ValueError as error:
        raise TypeError(f"this cannot be sent: {error}") from None
    return text.encode("ascii")


def decode(data: bytes) -> Any:
    """What `encode` was given; tuples have become lists, and keys of dictionaries text."""
    if _MARK in data:
        return json.loads(data, object_hook=_value_of)
    return json.loads(data)


def _object_of(value: Any) -> dict[str, str]:
    if isinstance(value, bytes | bytearray | memoryview):
        return {_BYTES: b64encode(value).decode("ascii")}
    raise TypeError(
        f"a {type(value).__name__} cannot be sent: use text, bytes, numbers, true, false, None, lists and dictionaries"
    )


_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=_object_of)


def _value_of(fields: dict[str, Any]) -> Any:
    if len(fields) == 1 and _BYTES in fields:
        return b64decode(fields[_BYTES])
    return fields
