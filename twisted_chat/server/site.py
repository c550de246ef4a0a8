"""The tree of everything that clients can ask for on the public port."""

from __future__ import annotations

from typing import Final

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.paths import is_canonical, other_spelling
from twisted_chat.server.bodyless import Bodyless
from twisted_chat.server.json_response import refuse
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.static_files import StaticFile, StaticFiles


def site_resource(rooms: RoomResource, static: dict[str, StaticFile], api: Resource | None = None) -> Resource:
    """``/chat/ROOM``, ``/static/NAME``, ``/api``, and ``/``, which says how to use them."""
    root = _Root()
    root.putChild(b"chat", rooms)
    root.putChild(b"static", StaticFiles(static))
    if api is not None:
        root.putChild(b"api", api)
    root.putChild(b"favicon.ico", _Page(static["favicon.svg"]))
    root.putChild(b"", _Page(static["index.html"]))
    return root


class _Page(Bodyless):
    """One file, at one path."""

    def __init__(self, file: StaticFile) -> None:
        super().__init__()
        self._file: Final = file

    def render(self, request: Request) -> bytes:
        return _nothing_here(request) if request.postpath else self._file.render(request)


class _Root(Resource):
    """The first part of each path, in its canonical spelling; a room says itself what is wrong with its own."""

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        if request.path.startswith(b"/chat/") or is_canonical(request.path):
            child: IResource = super().getChildWithDefault(path, request)
            return child
        return _NotFound()

    def getChild(self, path: bytes, request: Request) -> IResource:
        return _NotFound()


class _NotFound(Bodyless):
    """The answer where there is nothing, which names what may have been meant."""

    def render(self, request: Request) -> bytes:
        return _nothing_here(request)


def _nothing_here(request: Request) -> bytes:
    """Answer 404, with the canonical spelling of a path that has another one."""
    try:
        usual = other_spelling(request.path)
    except ValueError as error:
        return refuse(request, ChatError(Reason.NOT_FOUND, f"there is nothing here: {error}"))
    hint = "rooms are at /chat/ROOM" if usual is None else f"perhaps at {usual.decode('ascii')}"
    return refuse(request, ChatError(Reason.NOT_FOUND, f"there is nothing here; {hint}"))
