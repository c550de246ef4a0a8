"""What can be said of the decorators for users without Django; with it, see tests/examples/test_from_channels.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twisted_chat.consumers import (
    channel_and_http_session,
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
    http_session,
    http_session_user,
    route,
    transfer_user,
)
from twisted_chat.testing import Consumers

DECORATORS = [
    http_session,
    http_session_user,
    channel_session_user,
    channel_session_user_from_http,
    channel_and_http_session,
    channel_and_http_session_user_from_http,
]


@pytest.mark.parametrize("decorator", DECORATORS)
def test_a_coroutine_is_refused(decorator: Callable[..., Any]) -> None:
    async def consumer(message: object) -> None:
        """It could not be called."""

    with pytest.raises(TypeError, match=r"consumer is a coroutine function.*make it a plain function"):
        decorator(consumer)


@pytest.mark.parametrize("decorator", DECORATORS)
def test_without_django_it_is_said_what_is_missing(decorator: Callable[..., Any]) -> None:
    def ws_connect(message: object) -> None:
        """It is not called."""

    with pytest.raises(RuntimeError, match="set DJANGO_SETTINGS_MODULE"):
        Consumers([route("websocket.connect", decorator(ws_connect))]).connect("/")


def test_who_is_logged_in_is_transferred_and_nothing_else() -> None:
    here = {"_auth_user_id": "1", "_auth_user_backend": "b", "_auth_user_hash": "h", "basket": [1]}
    there = {"room": "lobby"}
    transfer_user(here, there)
    assert there == {"room": "lobby", "_auth_user_id": "1", "_auth_user_backend": "b", "_auth_user_hash": "h"}
    transfer_user({}, there)
    assert there["_auth_user_id"] == "1"
