"""Django's sessions and users in consumers, as in `channels.sessions` and `channels.auth` of Channels 1.

They read the database, which blocks, so they are for plain functions and methods.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TypeVar

from twisted_chat.consumers import django
from twisted_chat.consumers.decorators import channel_session, message_of
from twisted_chat.consumers.message import Message

F = TypeVar("F", bound=Callable[..., Any])

_KEYS: Final = ("_auth_user_id", "_auth_user_backend", "_auth_user_hash")
"""Where Django's sessions keep who is logged in."""


def http_session(consumer: F) -> F:
    """Gives ``message.http_session``, the session of the visitor's cookie; None where there is no such cookie.

    What the consumer changes in it is saved when it returns. Only messages of ``websocket.connect`` have cookies.
    """

    def around(message: Message, call: Callable[[], Any]) -> Any:
        if hasattr(message, "http_session"):
            return call()
        message.http_session = django.http_session(message.cookies)
        result = call()
        session = message.http_session
        if session is not None and session.modified:
            session.save()
        return result

    return _around(consumer, around)


def http_session_user(consumer: F) -> F:
    """Gives ``message.http_session``, and ``message.user``, who is logged in there, or Django's ``AnonymousUser``."""

    def around(message: Message, call: Callable[[], Any]) -> Any:
        message.user = django.user_of(message.http_session or {})
        return call()

    return http_session(_around(consumer, around))


def channel_session_user(consumer: F) -> F:
    """Gives ``message.channel_session``, and ``message.user``, whom `channel_session_user_from_http` found."""

    def around(message: Message, call: Callable[[], Any]) -> Any:
        message.user = django.user_of(message.channel_session)
        return call()

    return channel_session(_around(consumer, around))


def channel_session_user_from_http(consumer: F) -> F:
    """The same for ``websocket.connect``: takes the user from Django's session into the channel's, for later."""

    def around(message: Message, call: Callable[[], Any]) -> Any:
        if message.http_session is not None:
            transfer_user(message.http_session, message.channel_session)
        return call()

    return http_session(channel_session(_around(channel_session_user(consumer), around)))


def channel_and_http_session(consumer: F) -> F:
    """Gives both sessions. The channel's keeps the key of the visitor's, which so is there in later messages, too."""

    def around(message: Message, call: Callable[[], Any]) -> Any:
        if message.http_session is None:
            message.http_session = django.http_session(message.channel_session)
        else:
            message.channel_session.setdefault(django.session_cookie(), message.http_session.session_key)
        return call()

    return http_session(channel_session(_around(consumer, around)))


def channel_and_http_session_user_from_http(consumer: F) -> F:
    """The same, and what `channel_session_user_from_http` does."""

    def around(message: Message, call: Callable[[], Any]) -> Any:
        if message.http_session is not None:
            transfer_user(message.http_session, message.channel_session)
        return call()

    return channel_and_http_session(_around(channel_session_user(consumer), around))


def transfer_user(from_session: Mapping[str, Any], to_session: MutableMapping[str, Any]) -> None:
    """Who is logged in in the one session is then in the other, too."""
    for name in _KEYS:
        if name in from_session:
            to_session[name] = from_session[name]


def _around(consumer: F, around: Callable[[Message, Callable[[], Any]], Any]) -> F:
    if inspect.iscoroutinefunction(consumer):
        raise TypeError(
            f"{consumer.__qualname__} is a coroutine function, and Django's sessions and users are read from its "
            "database, which blocks: make it a plain function"
        )

    @functools.wraps(consumer)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(message_of(args), lambda: consumer(*args, **kwargs))

    return wrapped  # type: ignore[return-value]  # it takes and returns what `consumer` does
