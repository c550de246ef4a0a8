"""The closed table of what can be refused, and how each refusal is said on every wire."""

from __future__ import annotations

from enum import Enum
from typing import Final, Self


class Reason(Enum):
    """Every reason to refuse something.

    code
        what a client branches on, ``message_too_long``; also the label under which refusals are counted
    close
        the WebSocket close code when the refusal ends a connection (RFC 6455 section 7.4; applications have 3000-4999)
    http
        the status when it answers a request
    reconnect
        whether coming back unchanged can help
    """

    code: str
    close: int
    http: int
    reconnect: bool

    def __new__(cls, code: str, close: int, http: int, reconnect: bool) -> Self:
        reason = object.__new__(cls)
        reason._value_ = code
        reason.code, reason.close, reason.http, reason.reconnect = code, close, http, reconnect
        return reason

    # What a client sent is wrong.
    BAD_JSON = "bad_json", 1007, 400, False
    BAD_MESSAGE = "bad_message", 1008, 400, False
    BAD_HANDLE = "bad_handle", 1008, 400, False
    BAD_KEY = "bad_key", 1008, 400, False
    BAD_REQUEST = "bad_request", 1008, 400, False
    BAD_ROOM = "bad_room", 1008, 400, False
    BINARY_FRAME = "binary_frame", 1003, 400, False
    MESSAGE_TOO_LONG = "message_too_long", 1009, 413, False
    BODY_TOO_LARGE = "body_too_large", 1009, 413, False
    NOT_FOUND = "not_found", 1008, 404, False
    METHOD_NOT_ALLOWED = "method_not_allowed", 1008, 405, False
    NOT_ACCEPTABLE = "not_acceptable", 1008, 406, False
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", 1008, 415, False
    # Who a client is, and what it may do.
    TOKEN_REQUIRED = "token_required", 1008, 401, False
    TOKEN_INVALID = "token_invalid", 1008, 401, False
    TOKEN_EXPIRED = "token_expired", 1008, 401, False
    API_KEY_INVALID = "api_key_invalid", 1008, 401, False
    NOT_ALLOWED = "not_allowed", 1008, 403, False
    HOST_NOT_ALLOWED = "host_not_allowed", 1008, 421, False
    ORIGIN_NOT_ALLOWED = "origin_not_allowed", 1008, 403, False
    # What an operator decided.
    DISCONNECTED = "disconnected", 1008, 403, False
    ROOM_REFUSED = "room_refused", 1008, 403, False
    # Limits: the same thing may be welcome later.
    RATE_LIMITED = "rate_limited", 1013, 429, True
    TOO_MANY_CONNECTIONS = "too_many_connections", 1013, 503, True
    TOO_MANY_FROM_ADDRESS = "too_many_from_address", 1013, 429, True
    TOO_SLOW = "too_slow", 3008, 503, True
    # The server's side.
    GOING_AWAY = "going_away", 1001, 503, True
    TRY_AGAIN = "try_again", 1013, 503, True
    STORAGE_FULL = "storage_full", 1013, 507, True
    INTERNAL = "internal", 1011, 500, True


class ChatError(Exception):
    """Something was refused. `message` is for people: what was wrong and what would be right."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)  # both: that is what it is copied and pickled from
        self.reason: Final = reason
        self.message: Final = message
        self.key: str | None = None
        """The idempotency key of the command that was refused, where it was readable."""

    def __str__(self) -> str:
        return self.message
