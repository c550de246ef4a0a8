"""A small client for the command line: posts messages to a room, follows its event stream, asks the API."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

PATIENCE: Final = 60.0
"""Seconds without a byte after which an event stream counts as dead; the server writes more often than that."""

AGAIN: Final = 2.0
"""Seconds until a lost event stream is asked for again."""

TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
"""HTTP statuses that pass."""


REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class ClientError(Exception):
    """The server refused; one readable line."""


class Unreachable(ClientError):  # noqa: N818 - a state of the server
    """There is no server right now, or it takes nobody."""


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # such as a port that is no number
        return False


class _NoRedirects(HTTPRedirectHandler):
    """Follows none: tokens and keys would go along, to whomever an answer names."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Client:
    """What is at one URL. `kind` and `example` say what that should be."""

    kind: str
    example: str

    def __init__(self, url: str, *, token: str | None = None, api_key: str | None = None, verify: bool = True) -> None:
        if not url.startswith(("http://", "https://")) or not _has_host(url):
            raise ClientError(f"{url!r} is no {self.kind}'s URL; give for example {self.example}")
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if api_key:
            self._headers["X-API-Key"] = api_key
        context = ssl.create_default_context()
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self._opener: Final = build_opener(HTTPSHandler(context=context), _NoRedirects)

    def _open(self, body: bytes | None, headers: dict[str, str]) -> HTTPResponse:
        request = Request(self._url, body, self._headers | headers)  # noqa: S310  # its scheme was checked
        try:
            response: HTTPResponse = self._opener.open(request, timeout=PATIENCE)
        except HTTPError as error:
            kind = Unreachable if error.code in TRY_AGAIN else ClientError
            raise kind(f"{self._url}: {_complaint(error)}") from None
        except URLError as error:
            raise Unreachable(f"{self._url}: {error.reason}") from None
        except (OSError, HTTPException) as error:
            # It hung up, or speaks something else, as the port of an https: URL does.
            raise Unreachable(f"{self._url}: no answer in HTTP: {error!r}") from None
        return response

    def _expect(self, response: HTTPResponse, content_type: str) -> None:
        found = response.headers.get_content_type()
        if found != content_type:
            raise ClientError(
                f"{self._url}: this is not a {self.kind}, which would answer with {content_type}, not {found}"
            )

    def _read(self, response: HTTPResponse, needed: str) -> dict[str, Any]:
        """The JSON object of an answer, which has a member `needed`."""
        try:
            fields = json.load(response)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or needed not in fields:
            raise ClientError(f"{self._url}: this is not a {self.kind}, whose answer would have {needed!r}")
        return fields


class RoomClient(_Client):
    """One room by its URL, such as ``http://127.0.0.1:8080/chat/lobby``."""

    kind = "room"
    example = "http://127.0.0.1:8080/chat/lobby"

    def publish(self, handle: str | None, message: str, key: str | None = None) -> dict[str, Any]:
        """Post a message; the message as stored."""
        fields = {"handle": handle, "message": message, "key": key}
        body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        with self._open(body, {"Content-Type": "application/json"}) as response:
            self._expect(response, "application/json")
            return self._read(response, "id")

    def follow(
        self,
        since: str | None = None,
        *,
        on_reset: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[dict[str, Any]]:
        """Messages as they come, for ever. A connection that is lost is taken up where it broke off.

        `on_reset` is called where that cannot be done and messages may be missing. Raises `ClientError` when the room
        cannot be had at all.
        """
        connected = False
        while True:
            try:
                headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": since} if since else {})
                with self._open(None, headers) as response:
                    self._expect(response, "text/event-stream")
                    connected = True
                    for event in _events(response):
                        since = event.position or since
                        if not event.name and event.fields:
                            yield event.fields
                        elif event.fields.get("event") == "reset":
                            on_reset()
            except Unreachable:
                if not connected:
                    raise
            except (OSError, HTTPException):
                pass  # it broke off
            sleep(AGAIN)


class ApiClient(_Client):
    """The API of a server by the server's URL, such as ``http://127.0.0.1:8080``."""

    kind = "server"
    example = "http://127.0.0.1:8080"

    def __init__(self, url: str, *, api_key: str | None = None, verify: bool = True) -> None:
        super().__init__(url, api_key=api_key, verify=verify)
        if urlsplit(url).path.strip("/"):
            raise ClientError(f"{url!r} is no {self.kind}'s URL, which has no path; give for example {self.example}")
        self._server = url.rstrip("/")

    def nodes(self) -> list[dict[str, Any]]:
        """What each node told last. Raises `ClientError`."""
        return self._ask("nodes", "nodes")

    def set_aside(self) -> list[dict[str, Any]]:
        """Which events of consumers were set aside, because workers died of them. Raises `ClientError`."""
        return self._ask("set-aside", "events")

    def replay(self, event: str) -> None:
        """Have one of those run again. Raises `ClientError`."""
        self._order("replay", {"id": event})

    def drop(self, event: str) -> None:
        """Forget one of those. Raises `ClientError`."""
        self._order("drop", {"id": event})

    def _ask(self, question: str, what: str) -> list[dict[str, Any]]:
        self._url = f"{self._server}/api/{question}"
        with self._open(None, {}) as response:
            self._expect(response, "application/json")
            answer: list[dict[str, Any]] = self._read(response, what)[what]
            return answer

    def _order(self, order: str, fields: dict[str, Any]) -> None:
        self._url = f"{self._server}/api/{order}"
        headers = {"Content-Type": "application/json"}
        with self._open(json.dumps(fields).encode(), headers) as response:
            self._expect(response, "application/json")


class _Event(NamedTuple):
    """A server-sent event: its name (empty for a message), the position it sets, and its JSON."""

    name: str
    position: str
    fields: dict[str, Any]


def _events(lines: HTTPResponse) -> Iterator[_Event]:
    position = name = ""
    data: list[str] = []
    for raw in lines:
        line = raw.decode().rstrip("\n")
        if not line:
            if data or position:
                yield _Event(name, position, json.loads("\n".join(data)) if data else {})
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "id":
            position = value
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)


def _complaint(error: HTTPError) -> str:
    if error.code in REDIRECTS:
        return f"it is elsewhere: give {error.headers.get('location')!r} if you trust that one"
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
