"""Which consumer is for which message."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.generic import WebsocketConsumer
from twisted_chat.consumers.routing import Router, include, route, route_class

NO_CONSUMER: Any = 7
NO_CLASS: Any = print


def first(message: object, **found: str) -> None: ...
def second(message: object, **found: str) -> None: ...


def found(routing: object, channel: str = "websocket.receive", **content: Any) -> tuple[str, dict[str, str]] | None:
    match = Router(routing).match(channel, content)
    return (match.consumer.__name__, match.arguments) if match is not None else None


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """One that can be imported."""
    module = sys.modules["a_module_of_routes"] = ModuleType("a_module_of_routes")
    module.first = first  # type: ignore[attr-defined]
    module.routes = [route("websocket.receive", first)]  # type: ignore[attr-defined]
    module.channel_routing = {"websocket.receive": second}  # type: ignore[attr-defined]
    yield module
    del sys.modules["a_module_of_routes"]


def test_a_dictionary() -> None:
    routing = {"websocket.receive": first, "mine": second}
    assert found(routing) == ("first", {})
    assert found(routing, "mine") == ("second", {})
    assert found(routing, "websocket.connect") is None
    assert Router(routing).channels() == {"websocket.receive", "mine"}


def test_the_first_that_matches_counts() -> None:
    routing = [
        route("websocket.receive", first, path="^/a"),
        route("websocket.receive", second),
    ]
    assert found(routing, path="/a/b") == ("first", {})
    assert found(routing, path="/b/a") == ("second", {})


def test_filters_match_from_the_beginning_and_give_arguments() -> None:
    routing = [route("websocket.connect", first, path=r"/room/(?P<room>\w+)", query_string="key=(?P<key>.)")]
    match = found(routing, "websocket.connect", path="/room/a1/x", query_string=b"key=7")
    assert match == ("first", {"room": "a1", "key": "7"})
    assert found(routing, "websocket.connect", path="x/room/a1", query_string=b"key=7") is None
    assert found(routing, "websocket.connect", path="/room/a1") is None, "a key that is not there does not match"


def test_several_channels_in_one_route() -> None:
    routing = [route(("a", "b"), first)]
    assert found(routing, "a") == found(routing, "b") == ("first", {})


def test_includes_take_away_what_they_match() -> None:
    inner = [route("websocket.receive", first, path=r"^/(?P<room>\d+)$"), route("websocket.receive", second, path="^$")]
    routing = [include([include(inner, path="/b")], path="^/(?P<top>a)")]
    assert found(routing, path="/a/b/12") == ("first", {"top": "a", "room": "12"})
    assert found(routing, path="/a/b") == ("second", {"top": "a"})
    assert found(routing, path="/a/c/12") is None
    assert found(routing) is None


def test_dotted_names(module: ModuleType) -> None:
    assert found([route("websocket.receive", "a_module_of_routes.first")]) == ("first", {})
    assert found({"websocket.receive": "a_module_of_routes.first"}) == ("first", {})
    assert found([include("a_module_of_routes.routes")]) == ("first", {})
    assert found([include("a_module_of_routes")]) == ("second", {})


def test_classes() -> None:
    class Mine(WebsocketConsumer):
        """One."""

    for routing in ([route_class(Mine, path="^/a")], [Mine.as_route(path="^/a")]):
        assert Router(routing).channels() == {"websocket.connect", "websocket.receive", "websocket.disconnect"}
        assert found(routing, path="/a") == ("consumer", {})
        assert found(routing, path="/b") is None


@pytest.mark.parametrize("channel", ["websocket.connect", "websocket.receive", "websocket.disconnect"])
def test_what_a_websocket_has_to_have_a_consumer_for(channel: str) -> None:
    router = Router([route(channel, first, path="^/a")])
    assert router.takes({"path": "/a"})
    assert not router.takes({"path": "/b"})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Router(7), "a routing is a dictionary"),
        (lambda: Router([first]), r"a list of routes has route\(\)"),
        (lambda: Router({7: first}), "names of channels, not 7"),
        (lambda: route("a", NO_CONSUMER), "the consumer of a cannot be called: 7"),
        (lambda: route("a", "nowhere.at.all"), "there is no 'nowhere.at.all'"),
        (lambda: route("a", "sys.nothing"), "there is no 'sys.nothing'"),
        (lambda: route("a", first, path="("), "no regular expression"),
        (lambda: route("a", first, path="(a)"), "a group without a name"),
        (lambda: include([], path="(a)"), "a group without a name"),
        (lambda: route_class(NO_CLASS), "route_class takes a subclass"),
    ],
)
def test_mistakes(make: Any, said: str) -> None:
    with pytest.raises(RoutingError, match=said):
        make()
