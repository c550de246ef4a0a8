"""The whole site, for those that ask for it under one of its own hosts: before anything else looks at a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource

from twisted_chat.auth import Hosts
from twisted_chat.core.errors import ChatError
from twisted_chat.server.bodyless import Bodyless
from twisted_chat.server.http.request import field
from twisted_chat.server.json_response import refuse


class HostSite(Resource):
    """A site that answers to some hosts only, alike for pages, the API, event streams and WebSockets.

    hosts
        which; may be exchanged while the server runs
    refused
        called with the code of each refusal
    """

    _log = Logger()

    def __init__(self, site: Resource, hosts: Hosts, refused: Callable[[str], None]) -> None:
        super().__init__()
        self.hosts = hosts
        self._site: Final = site
        self._refused: Final = refused

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        try:
            self.hosts.check(field(request, b"host"))
        except ChatError as error:
            self._refused(error.reason.code)
            self._log.debug(
                "{method} {path} is refused: {reason}, {error}",
                method=request.method.decode("ascii", "backslashreplace"),
                path=request.path.decode("ascii", "backslashreplace"),
                reason=error.reason.code,
                error=error.message,
            )
            return _WrongHost(error)
        child: IResource = self._site.getChildWithDefault(path, request)
        return child


class _WrongHost(Bodyless):
    """The answer to one request."""

    def __init__(self, error: ChatError) -> None:
        super().__init__()
        self._error: Final = error

    def render(self, request: Request) -> bytes:
        return refuse(request, self._error)
