"""Sending from processes that run no consumers, such as those of a web application: through the API of a server."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final, NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from twisted_chat.consumers import codec
from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Effect, Send, SendGroup
from twisted_chat.consumers.run import open_elsewhere

TIMEOUT: Final = 10.0
"""Seconds that a server may take to answer."""

ATTEMPTS: Final = 2
"""How often the same is sent when no answer comes. It has a key, so that it arrives once."""


def send_through(server: str, api_key: str) -> None:
    """From now on `Group.send` and `Channel.send` work in this process, where no consumer runs: they ask a server.

    Call it once, in Django's settings for example. In a process that runs consumers it has no effect.

    server
        such as ``http://127.0.0.1:8080``
    api_key
        one of those in its ``--api-key-file``

    Sending blocks until the server has answered. It raises `NotReadyError` if the server cannot be reached or cannot do
    it now, and `RuntimeError` if it refuses.
    """
    open_elsewhere(ApiSender(server, api_key))


class ApiSender:
    """See `run.Sender`."""

    def __init__(self, server: str, api_key: str) -> None:
        """Raises `ValueError`."""
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{server!r} is no server; give its URL without a path, such as http://127.0.0.1:8080")
        self._url: Final = f"{parts.scheme}://{parts.netloc}/api/send"
        self._api_key: Final = api_key.strip()
        # The server is one of ours, not behind the proxy that the environment may name.
        self._opener: Final = build_opener(ProxyHandler({}))

    def cause(self, effect: Effect, *, immediately: bool) -> None:
        key = secrets.token_hex(16)
        match effect:
            case SendGroup(group, content):
                self._post({**content, "group": group, "key": key})
            case Send(channel, content):
                self._post({"channel": channel, "content": content, "key": key})

    def add(self, group: str, channel: str) -> NoReturn:
        raise RuntimeError(f"only consumers can add a client to a group, here to {group!r}")

    def discard(self, group: str, channel: str) -> NoReturn:
        raise RuntimeError(f"only consumers can take a client out of a group, here of {group!r}")

    def _post(self, fields: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json", "X-API-Key": self._api_key}
        request = Request(self._url, codec.encode(fields), headers)  # noqa: S310 - its scheme was checked
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._opener.open(request, timeout=TIMEOUT).close()
            except HTTPError as error:
                with error:
                    raise _refusal(error) from None
            except OSError as error:  # URLError is one
                if attempt == ATTEMPTS:
                    raise NotReadyError(f"{self._url} cannot be reached: {error}") from error
            else:
                return


def _refusal(error: HTTPError) -> Exception:
    try:
        said = json.load(error)["error"]["message"]
    except (ValueError, TypeError, LookupError, OSError):
        said = error.reason
    text = f"the server answered {error.code}: {said}"
    return NotReadyError(text) if error.code in {429, 502, 503, 504} else RuntimeError(text)
