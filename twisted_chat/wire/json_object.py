"""JSON objects that clients send, read strictly: each name once, UTF-8, no byte order mark."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final

from twisted_chat.core.errors import ChatError, Reason

JSON_TYPES: Final = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "list",
    dict: "object",
}
"""What JSON calls the Python types that it is read into."""


def read_object(text: bytes) -> dict[str, Any]:
    """Return the members of a JSON object. Raise `ChatError` (`Reason.BAD_JSON`) with what is wrong with `text`."""
    if text.startswith(codecs.BOM_UTF8):
        raise ChatError(Reason.BAD_JSON, "this begins with a byte order mark; send UTF-8 without one, beginning with {")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ChatError(Reason.BAD_JSON, f"this is not UTF-8: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        raise ChatError(Reason.BAD_JSON, f"this is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ChatError(Reason.BAD_JSON, "this JSON is nested too deeply") from None
    except ValueError:
        raise ChatError(Reason.BAD_JSON, "a number in this JSON has too many digits") from None
    if not isinstance(value, dict):
        raise ChatError(Reason.BAD_JSON, f"this is a {JSON_TYPES[type(value)]}; send a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ChatError(Reason.BAD_JSON, "the same name stands twice in this JSON object")
    return fields


def _no_constant(name: str) -> Any:
    raise ChatError(Reason.BAD_JSON, f"{name} is not JSON")
