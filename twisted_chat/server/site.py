"""The tree of everything that clients can ask for on the public port."""

from __future__ import annotations

from typing import Final

from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.json_response import refuse
from twisted_chat.server.room_resource import RoomResource
from twisted_chat.server.static_files import StaticFile, StaticFiles


def site_resource(rooms: RoomResource, static: dict[str, StaticFile], api: Resource | None = None) -> Resource:
    """``/chat/ROOM``, ``/static/NAME``, ``/api``, and ``/``, which says how to use them."""
    root = _Root(static["index.html"])
    root.putChild(b"chat", rooms)
    root.putChild(b"static", StaticFiles(static))
    if api is not None:
        root.putChild(b"api", api)
    root.putChild(b"favicon.ico", _Page(static["favicon.svg"]))
    root.putChild(b"", _Page(static["index.html"]))
    return root


class _Page(Resource):
    """One file."""

    isLeaf = True

    def __init__(self, file: StaticFile) -> None:
        super().__init__()
        self._file: Final = file

    def render(self, request: Request) -> bytes:
        return self._file.render(request)


class _Root(_Page):
    isLeaf = False

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _NotFound()


class _NotFound(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        return refuse(request, ChatError(Reason.NOT_FOUND, "there is nothing here; rooms are at /chat/ROOM"))
