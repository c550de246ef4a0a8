"""Resources whose answer no body can change."""

from __future__ import annotations

from twisted.web.resource import Resource
from twisted.web.server import Request


class Bodyless(Resource):
    """A leaf that answers by the head of a request, without its body."""

    isLeaf = True

    def check_head(self, request: Request) -> bytes | None:
        return self.render(request)

    def render(self, request: Request) -> bytes:
        raise NotImplementedError
