"""What an operator's programs ask of all nodes together: ``/api/...``, with an API key.

=========================  =====================================================================
``POST /api/disconnect``   ``{"user", "reason"?}``: end every connection of a user
``POST /api/refuse``       ``{"room", "seconds"?}``: close a room, for so long
``POST /api/admit``        ``{"room"}``: open it again
``GET /api/refused``       which rooms are closed
``GET /api/nodes``         which nodes there are
``POST /api/send``         ``{"group", "text"?, "close"?, "key"?}`` or ``{"channel", "content", "key"?}``: to a group of
                           the consumers, or to a channel
``GET /api/set-aside``     which events of consumers were set aside, because workers died of them
``POST /api/replay``       ``{"id"}``: run one of those again
``POST /api/drop``         ``{"id"}``: forget one of those
=========================  =====================================================================
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_chat.consumers import codec
from twisted_chat.consumers.channel import check_content, check_frame
from twisted_chat.consumers.errors import NotReadyError
from twisted_chat.consumers.events import Send
from twisted_chat.consumers.names import check_channel, check_group, group_room
from twisted_chat.consumers.queue import Aside
from twisted_chat.consumers.run import Layer
from twisted_chat.control import LONGEST_REASON, Control
from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.core.names import room_name
from twisted_chat.core.text import clean_key
from twisted_chat.hub import Hub
from twisted_chat.metrics import Metrics
from twisted_chat.nodes import Nodes
from twisted_chat.server.admission import Admission
from twisted_chat.server.http.request import body_of
from twisted_chat.server.json_response import answer, check_json, refuse
from twisted_chat.wire.json_object import read_object

LONGEST_USER: Final = 128
LONGEST_REFUSAL: Final = 10 * 366 * 86_400.0
"""Seconds for which a room can be refused at most, unless it is for ever."""

ASIDE_ID: Final = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)

Fields = dict[str, Any]


class Consumers(Protocol):
    """Those of this server, or of its workers; see `consumers.node.ConsumerNode`."""

    @property
    def groups(self) -> Hub:
        """The rooms that are groups."""

    @property
    def layer(self) -> Layer:
        """What sends to channels."""

    @property
    def aside(self) -> Aside | None:
        """What workers died of; None where there are none."""


class Api(Resource):
    """The root of the API; `consumers` is None where there are none."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self, admission: Admission, control: Control, nodes: Nodes, metrics: Metrics, consumers: Consumers | None = None
    ) -> None:
        super().__init__()
        self._consumers: Final = consumers
        self._admission: Final = admission
        self._control: Final = control
        self._nodes: Final = nodes
        self._metrics: Final = metrics
        self._questions: Final[dict[str, Callable[[], Awaitable[Fields]]]] = {
            "nodes": self._list_nodes,
            "refused": self._list_refused,
            "set-aside": self._list_set_aside,
        }
        self._orders: Final[dict[str, Callable[[Fields], Awaitable[Fields]]]] = {
            "disconnect": self._disconnect,
            "refuse": self._refuse_room,
            "admit": self._admit,
            "send": self._send,
            "replay": self._replay,
            "drop": self._drop,
        }

    def render(self, request: Request) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def finish(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        Deferred.fromCoroutine(self._respond(request)).addErrback(self._failed, request).addCallback(finish)
        return NOT_DONE_YET

    def check_head(self, request: Request) -> bytes | None:
        """Refuse an order that is going to be refused whatever its body is."""
        try:
            self._checked(request)
        except ChatError as error:
            return self._refuse(request, error)
        return None

    def _checked(self, request: Request) -> str:
        """Return what is asked for, by somebody who may. Raise `ChatError` otherwise."""
        self._admission.check_origin(request)
        self._admission.check_api_key(request)
        name = b"/".join(request.postpath or ()).decode("utf-8", "replace")
        if name in self._questions:
            _expect_method(request, b"GET", b"HEAD")
        elif name in self._orders:
            _expect_method(request, b"POST")
            check_json(request)
        else:
            known = ", ".join(sorted([*self._questions, *self._orders]))
            raise ChatError(Reason.NOT_FOUND, f"the API has no {name[:80]!r}; it has {known}")
        return name

    async def _respond(self, request: Request) -> bytes:
        name = self._checked(request)
        if name in self._questions:
            fields = await self._questions[name]()
        else:
            fields = await self._orders[name](read_object(body_of(request)))
        return answer(request, 200, json.dumps(fields).encode())

    def _failed(self, failure: Failure, request: Request) -> bytes:
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.failure("a request to the API failed", failure)
            error = ChatError(Reason.INTERNAL, "the server failed on this request; the log says how")
        return self._refuse(request, error)

    def _refuse(self, request: Request, error: ChatError) -> bytes:
        self._metrics.refused(error.reason.code)
        return refuse(request, error)

    # Questions

    async def _list_nodes(self) -> Fields:
        return {"nodes": await self._nodes.all()}

    async def _list_refused(self) -> Fields:
        refused = self._control.refused()
        return {"refused": [{"room": room, "until": until} for room, until in refused.items()]}

    async def _list_set_aside(self) -> Fields:
        try:
            return {"events": await self._aside().all()}
        except NotReadyError as error:
            raise ChatError(Reason.TRY_AGAIN, f"nobody knows now: {error}") from error

    # Orders

    async def _disconnect(self, fields: Fields) -> Fields:
        user = _text(fields, "user", LONGEST_USER)
        reason = _text(fields, "reason", LONGEST_REASON) if fields.get("reason") is not None else None
        return {"id": str(await self._control.disconnect(user, reason))}

    async def _refuse_room(self, fields: Fields) -> Fields:
        room = _room(fields)
        seconds = fields.get("seconds")
        until = None
        if seconds is not None:
            number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not number or not 0 < seconds <= LONGEST_REFUSAL:
                raise ChatError(
                    Reason.BAD_REQUEST,
                    f'"seconds" is a number above 0, at most {LONGEST_REFUSAL:.0f}; leave it out to close the room '
                    "until it is admitted",
                )
            until = self._admission.wall_clock() + seconds
        self._control.check_most(room)
        return {"id": str(await self._control.refuse(room, until)), "room": room, "until": until}

    async def _admit(self, fields: Fields) -> Fields:
        room = _room(fields)
        return {"id": str(await self._control.admit(room)), "room": room}

    async def _replay(self, fields: Fields) -> Fields:
        return await self._put_back(fields, self._aside().replay)

    async def _drop(self, fields: Fields) -> Fields:
        return await self._put_back(fields, self._aside().drop)

    async def _put_back(self, fields: Fields, order: Callable[[str], Awaitable[bool]]) -> Fields:
        name = fields.get("id")
        if not isinstance(name, str) or not ASIDE_ID.fullmatch(name):
            raise ChatError(Reason.BAD_REQUEST, '"id" is that of an event in /api/set-aside, such as "1795332600000-0"')
        try:
            done = await order(name)
        except NotReadyError as error:
            raise ChatError(Reason.TRY_AGAIN, f"this cannot be done now, or nobody knows: {error}") from error
        if not done:
            raise ChatError(Reason.NOT_FOUND, f"no event {name} is set aside; see /api/set-aside")
        return {"id": name}

    def _aside(self) -> Aside:
        aside = self._with_consumers().aside
        if aside is None:
            raise ChatError(
                Reason.NOT_FOUND, "this server runs its consumers itself; only what workers die of is set aside"
            )
        return aside

    def _with_consumers(self) -> Consumers:
        if self._consumers is None:
            raise ChatError(
                Reason.NOT_FOUND,
                "this server has no consumers: it was started neither with --routing nor with --consumers remote",
            )
        return self._consumers

    async def _send(self, fields: Fields) -> Fields:
        consumers = self._with_consumers()
        key = fields.get("key")
        if key is not None:
            if not isinstance(key, str):
                raise ChatError(Reason.BAD_REQUEST, '"key" is text, the same one when the same is sent again')
            key = clean_key(key, self._admission.limits.key_characters)
        if ("group" in fields) == ("channel" in fields):
            raise ChatError(Reason.BAD_REQUEST, 'say where it goes: "group" or "channel"')
        if "group" in fields:
            return await self._send_to_group(consumers.groups, fields, key)
        return await self._send_to_channel(consumers.layer, fields, key)

    async def _send_to_group(self, groups: Hub, fields: Fields, key: str | None) -> Fields:
        room, content = _group(fields), _frame(fields)
        # What consumers send has keys too, without this before them.
        key = f"api\x1f{key}" if key is not None else None
        published = await groups.publish(room, codec.encode(content), key, "api")
        return {"id": str(published.publication.position)}

    async def _send_to_channel(self, layer: Layer, fields: Fields, key: str | None) -> Fields:
        channel, content = _channel(fields)
        # It becomes the name of an event.
        name = hashlib.sha256(key.encode()).hexdigest()[:32] if key is not None else secrets.token_hex(16)
        try:
            await layer.carry_out([Send(channel, content)], f"api-{name}")
        except NotReadyError as error:
            raise ChatError(Reason.TRY_AGAIN, f"this cannot be sent now, or nobody knows: {error}") from error
        return {"channel": channel}


def _expect_method(request: Request, *methods: bytes) -> None:
    if request.method not in methods:
        allowed = b", ".join(methods).decode()
        request.setHeader("allow", allowed)
        raise ChatError(Reason.METHOD_NOT_ALLOWED, f"this takes {allowed}")


def _text(fields: Fields, name: str, longest: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isprintable():
        raise ChatError(Reason.BAD_REQUEST, f'"{name}" is text of 1 to {longest} characters that can be printed')
    return value


def _room(fields: Fields) -> str:
    name = fields.get("room")
    if not isinstance(name, str) or not name:
        raise ChatError(Reason.BAD_REQUEST, '"room" is the name of a room, such as "team/blue"')
    return room_name(name)


def _group(fields: Fields) -> str:
    try:
        return group_room(check_group(fields.get("group")))
    except TypeError as error:
        raise ChatError(Reason.BAD_REQUEST, f'"group": {error}') from None


def _frame(fields: Fields) -> Fields:
    """What a consumer would have given to `Group.send`."""
    content = {name: fields[name] for name in ("text", "bytes", "close") if fields.get(name) not in (None, False)}
    if not content:
        raise ChatError(Reason.BAD_REQUEST, 'say what to send: "text", or "close", or both')
    try:
        content = _carried(content)
        check_frame(content)
    except (TypeError, ValueError) as error:
        raise ChatError(Reason.BAD_REQUEST, str(error)) from None
    return content


def _channel(fields: Fields) -> tuple[str, Fields]:
    """A channel, and what a consumer would have given to its `Channel.send`."""
    content = fields.get("content")
    if not isinstance(content, dict):
        raise ChatError(Reason.BAD_REQUEST, 'say what to send: "content" is a JSON object')
    try:
        channel, content = check_channel(fields["channel"]), _carried(content)
        check_content(channel, content)
    except (TypeError, ValueError) as error:
        raise ChatError(Reason.BAD_REQUEST, str(error)) from None
    return channel, content


def _carried(content: Fields) -> Fields:
    """With bytes where `codec.encode` had put something for them."""
    carried: Any = codec.decode(json.dumps(content).encode())
    if not isinstance(carried, dict):
        raise TypeError("a message is a JSON object")
    return carried
