"""Which consumer is for which message: `route`, `route_class`, `include`, or a dictionary of channel to consumer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple, Protocol

from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.events import CONNECT, DISCONNECT, RECEIVE

Consumer = Callable[..., Any]


class Match(NamedTuple):
    """A consumer, and what the filters found: its keyword arguments."""

    consumer: Consumer
    arguments: dict[str, str]


class Entry(Protocol):
    """One line of a routing."""

    def match(self, channel: str, content: Mapping[str, Any]) -> Match | None:
        """Its consumer for such a message."""

    def channels(self) -> set[str]:
        """On which it has consumers."""


class ConsumerClass(Protocol):
    """What `route_class` takes; see `twisted_chat.consumers.generic`."""

    def channel_names(self) -> set[str]:
        """The channels that it consumes."""

    def consumer(self, message: Any, **arguments: Any) -> Any:
        """Makes an instance and calls it."""


class Route:
    """A consumer for messages on some channels of which all filters match."""

    def __init__(self, channels: str | Iterable[str], consumer: Consumer | str, **filters: str) -> None:
        self._channels: Final = {channels} if isinstance(channels, str) else set(channels)
        self._consumer: Final = resolve(consumer)
        self._filters: Final = _compiled(filters)
        if not callable(self._consumer):
            raise RoutingError(f"the consumer of {', '.join(sorted(self._channels))} cannot be called: {consumer!r}")

    def match(self, channel: str, content: Mapping[str, Any]) -> Match | None:
        if channel not in self._channels:
            return None
        found = _found(self._filters, content)
        return (
            Match(self._consumer, {k: v for m in found.values() for k, v in m.groupdict().items()})
            if (found is not None)
            else None
        )

    def channels(self) -> set[str]:
        return self._channels


class Include:
    """Other routes, for messages that begin as the filters say; they see what follows."""

    def __init__(self, routing: object, **filters: str) -> None:
        self._entries: Final = entries(routing)
        self._filters: Final = _compiled(filters)

    def match(self, channel: str, content: Mapping[str, Any]) -> Match | None:
        found = _found(self._filters, content)
        if found is None:
            return None
        if found:
            content = {**content, **{name: match.string[match.end() :] for name, match in found.items()}}
        for entry in self._entries:
            inner = entry.match(channel, content)
            if inner is not None:
                outer = {k: v for match in found.values() for k, v in match.groupdict().items()}
                return Match(inner.consumer, outer | inner.arguments)
        return None

    def channels(self) -> set[str]:
        return set().union(*(entry.channels() for entry in self._entries))


def route(channel: str | Iterable[str], consumer: Consumer | str, **filters: str) -> Route:
    """A consumer, or its dotted name, for a channel.

    Each filter is a regular expression that a key of the message has to match from its beginning, such as
    ``path=r"^/chat/(?P<room>[^/]+)/$"``; named groups become keyword arguments. Raises `RoutingError`.
    """
    return Route(channel, consumer, **filters)


def route_class(consumer: ConsumerClass | str, **filters: str) -> Route:
    """A class of consumers, or its dotted name, for all channels that it consumes."""
    found: Any = resolve(consumer)
    if not (callable(getattr(found, "channel_names", None)) and callable(getattr(found, "consumer", None))):
        raise RoutingError(f"route_class takes a subclass of WebsocketConsumer or BaseConsumer, not {consumer!r}")
    return Route(found.channel_names(), found.consumer, **filters)


def include(routing: object, **filters: str) -> Include:
    """Routes of another place: a list, a dictionary, or a dotted name of one, or of a module with `channel_routing`.

    What a filter matches is taken away before the included routes look at it.
    """
    return Include(routing, **filters)


class Router:
    """A whole routing. Raises `RoutingError` when it cannot be used."""

    def __init__(self, routing: object) -> None:
        self._root: Final = Include(routing)

    def match(self, channel: str, content: Mapping[str, Any]) -> Match | None:
        """The first consumer for a message."""
        return self._root.match(channel, content)

    def takes(self, handshake: Mapping[str, Any]) -> bool:
        """Whether a WebSocket belongs to the consumers: one is for its connect, or for what it sends, or for its end.

        As in Channels, a client that no consumer of ``websocket.connect`` is for is accepted if others are.
        """
        return any(self.match(channel, handshake) for channel in (CONNECT, RECEIVE, DISCONNECT))

    def channels(self) -> set[str]:
        """All channels that have consumers."""
        return self._root.channels()


def entries(routing: object) -> Sequence[Entry]:
    """The lines of a routing in one of its forms."""
    if isinstance(routing, str):
        routing = resolve(routing)
        routing = getattr(routing, "channel_routing", routing)
    if isinstance(routing, Mapping):
        return [_route_of(channel, consumer) for channel, consumer in routing.items()]
    if not isinstance(routing, Sequence):
        raise RoutingError(
            f"a routing is a dictionary of channel to consumer, or a list of route() and include(), not {routing!r:.80}"
        )
    for entry in routing:
        if not isinstance(entry, Route | Include):
            raise RoutingError(f"a list of routes has route(), route_class() and include() in it, not {entry!r:.80}")
    return routing


def _route_of(channel: object, consumer: Any) -> Route:
    if not isinstance(channel, str):
        raise RoutingError(f"the keys of a routing are names of channels, not {channel!r:.80}")
    return Route(channel, consumer)


def resolve(named: Any) -> Any:
    """What a dotted name is of; anything but text is returned as it is. Raises `RoutingError`."""
    if not isinstance(named, str):
        return named
    module, _, attribute = named.rpartition(".")
    try:
        return import_module(named)
    except ModuleNotFoundError as error:
        # Only what is looked for: a module that is there and misses another one has a mistake in it.
        if error.name is None or not (named == error.name or named.startswith(f"{error.name}.")):
            raise
    try:
        return getattr(import_module(module), attribute)
    except (AttributeError, ModuleNotFoundError, ValueError):
        raise RoutingError(f"there is no {named!r} to import") from None


def _compiled(filters: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    compiled = {}
    for name, pattern in filters.items():
        try:
            compiled[name] = re.compile(pattern)
        except (re.error, TypeError) as error:
            raise RoutingError(f"the filter {name}={pattern!r} is no regular expression: {error}") from None
        if compiled[name].groups != len(compiled[name].groupindex):
            raise RoutingError(f"the filter {name}={pattern!r} has a group without a name: write (?P<name>…) or (?:…)")
    return compiled


def _found(filters: Mapping[str, re.Pattern[str]], content: Mapping[str, Any]) -> dict[str, re.Match[str]] | None:
    found = {}
    for name, pattern in filters.items():
        if name not in content:
            return None
        match = pattern.match(_text(content[name]))
        if match is None:
            return None
        found[name] = match
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
