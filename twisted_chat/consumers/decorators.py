"""What consumers are decorated with. Each takes plain functions, methods and coroutine functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from twisted_chat.consumers.errors import DenyConnection
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.run import current_run

F = TypeVar("F", bound=Callable[..., Any])

ON_REACTOR: Final = "_twisted_chat_on_reactor"
"""The attribute of consumers that are called on the reactor's thread."""


def on_reactor(consumer: F) -> F:
    """Call this consumer on the reactor's thread, where coroutines run anyway: for one that returns a Deferred.

    It must not block: nothing else happens in the server meanwhile.
    """
    setattr(consumer, ON_REACTOR, True)
    return consumer


def channel_session(consumer: F) -> F:
    """Gives ``message.channel_session``: a dictionary of what JSON knows, kept for as long as the connection lives.

    It is kept when the consumer returns, also when it raises.
    """

    def begin(message: Message) -> None:
        if message.reply_channel is None:
            raise ValueError(
                f"@channel_session is for messages of a client; this one, on {message.channel.name!r}, has no "
                "reply_channel"
            )
        if not hasattr(message, "channel_session"):
            message.channel_session = current_run("@channel_session").session

    return _before(consumer, begin)


def enforce_ordering(consumer: F | None = None, slight: bool = False) -> Any:  # noqa: ARG001 - so it is called in Channels
    """Nothing needs to be done: the events of one connection are always run one after the other, in order."""
    return consumer if consumer is not None else lambda decorated: decorated


def allowed_hosts_only(consumer: F) -> F:
    """Refuses pages of other hosts than those in Django's ``ALLOWED_HOSTS``, or than the server's own without Django.

    The server checks the origin anyway (``--allow-origin``); this is one check more.
    """

    def begin(message: Message) -> None:
        if "headers" in message and not _is_allowed(message):
            raise DenyConnection

    return _before(consumer, begin)


def _is_allowed(message: Message) -> bool:
    from twisted_chat.consumers import django

    origin = message.header("origin")
    allowed = django.allowed_hosts()
    if allowed is None:
        host = message.header("host") or ""
        allowed = [urlsplit(f"//{host}").hostname or ""]
    if "*" in allowed:
        return True
    name = urlsplit(origin or "").hostname
    return name is not None and any(_matches(name, each.lower()) for each in allowed)


def _matches(name: str, allowed: str) -> bool:
    if allowed.startswith("."):
        return name.endswith(allowed) or name == allowed[1:]
    return name == allowed


def _before(consumer: F, begin: Callable[[Message], None]) -> F:
    """`consumer`, which may be a method, with `begin` called first for its message."""
    wrapped: Any
    if inspect.iscoroutinefunction(consumer):

        @functools.wraps(consumer)
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            begin(message_of(args))
            return await consumer(*args, **kwargs)

    else:

        @functools.wraps(consumer)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begin(message_of(args))
            return consumer(*args, **kwargs)

    return wrapped  # type: ignore[no-any-return]  # it takes and returns what `consumer` does


def message_of(args: tuple[Any, ...]) -> Message:
    """The message among the arguments of a consumer."""
    for argument in args[:2]:  # a method has itself before it
        if isinstance(argument, Message):
            return argument
    raise TypeError("a decorated consumer takes the message as its first argument")
