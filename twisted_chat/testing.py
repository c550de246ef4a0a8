"""What tests of consumers need: without a server, `Consumers`; with one, `running_server`. ``docs/consumers.rst``."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_chat.consumers import codec
from twisted_chat.consumers.events import Effect, Event, Instruction, Send, SendGroup
from twisted_chat.consumers.group_member import close_of
from twisted_chat.consumers.local import LocalQueue
from twisted_chat.consumers.names import DELAY, connection_of
from twisted_chat.consumers.routing import Router
from twisted_chat.consumers.run import Outside, open_outside
from twisted_chat.consumers.runner import Runner
from twisted_chat.consumers.session import ChannelSession
from twisted_chat.consumers.sockets import Sockets
from twisted_chat.core.publication import Position

_NOWHERE: Final = Position("testing", 0, 0)


class Consumers:
    """A routing, with clients that the test makes: no server, no threads, no waiting.

    Whatever a consumer raises is raised where the test made it run. Within ``with``, the test itself may send to
    `Group` and `Channel`, as a thread of the application would.

    posted
        what was sent to channels, as (channel, content), consumers or not
    """

    def __init__(self, routing: object) -> None:
        self.posted: Final[list[tuple[str, dict[str, Any]]]] = []
        self._router: Final = Router(routing)
        self._clock: Final = Clock()
        self._failures: deque[Failure] = deque()
        runner = Runner(self._router, _Direct(), failed=lambda _, failure: self._failures.append(failure))
        self._queue: Final = LocalQueue(self._clock, runner)
        self._queue.layer = _Layer(self)
        self._sockets: Final = Sockets(self._clock, self._queue, lambda *_: succeed(None))
        self._names = (f"test-{number}" for number in itertools.count(1))
        self._groups: dict[str, dict[str, Client]] = {}
        self._clients: dict[str, Client] = {}
        self._keys = itertools.count(1)
        self._end: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        outside = Outside(self._queue.layer, _wait, lambda: f"outside-{next(self._keys)}")
        self._end = open_outside(outside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def connect(
        self,
        path: str = "/",
        *,
        query_string: bytes = b"",
        headers: Mapping[str, str] | None = None,
        client: tuple[str, int] = ("192.0.2.1", 50_000),
    ) -> Client:
        """A client that connects. Whether it was accepted, and what it was told, the client knows.

        Raises `LookupError` when no consumer is for that path.
        """
        pairs = {"host": "testserver"} | {name.lower(): value for name, value in (headers or {}).items()}
        made = Client(self, next(self._names), path)
        self._clients[made.name] = made
        handshake = {
            "path": path,
            "query_string": query_string,
            "root_path": "",
            "scheme": "ws",
            "headers": [[name.encode("latin-1"), value.encode("latin-1")] for name, value in pairs.items()],
            "client": list(client),
            "server": ["testserver", 80],
        }
        if not self._router.takes(handshake):
            raise LookupError(f"no consumer is for a WebSocket at {path}")
        self._sockets.connect(made, handshake)
        self._raise()
        return made

    def send(self, channel: str, content: Mapping[str, Any]) -> None:
        """Something for the consumer of a channel of the application's own."""
        self._queue.post(Event(f"test-{next(self._keys)}", channel, _carried(content)), None)
        self._raise()

    def advance(self, seconds: float) -> None:
        """So much time goes by: what was to be sent later is, if its time has come."""
        self._clock.advance(seconds)
        self._raise()

    def group(self, name: str) -> set[Client]:
        """The members of a group."""
        return set(self._groups.get(name, {}).values())

    def idle(self) -> Deferred[None]:
        """Fires when no consumer runs any more, for coroutines that wait for something; fails with what one raised."""

        def done(_: object) -> None:
            self._raise()

        return self._queue.idle().addCallback(done)

    def _raise(self) -> None:
        if self._failures:
            self._failures.popleft().raiseException()


class Client:
    """A client of `Consumers.connect`.

    accepted
        whether a consumer let it in
    close_code
        with which a consumer ended the connection; 403 where it refused the handshake; None while it did not
    messages
        what it was sent and did not `receive` yet: ``{"text": …}``, ``{"bytes": …}``
    """

    def __init__(self, consumers: Consumers, name: str, path: str) -> None:
        self.name: Final = name
        self.path: Final = path
        self.accepted = False
        self.close_code: int | None = None
        self.messages: Final[deque[dict[str, Any]]] = deque()
        self._consumers: Final = consumers

    @property
    def connected(self) -> bool:
        """Whether it is in, and was not sent away."""
        return self.accepted and self.close_code is None and self.name in self._consumers._clients

    @property
    def session(self) -> ChannelSession:
        """Its `channel_session`, to look at."""
        return ChannelSession(self._consumers._queue.session_of(self.name))

    def send(self, text: str | None = None, *, bytes: bytes | None = None, json: Any = None) -> None:  # noqa: A002
        """Send a frame: text, bytes, or text that is the JSON of something."""
        if not self.connected:
            raise AssertionError(f"this client is not connected: {self!r}")
        if bytes is not None:
            frame: dict[str, Any] = {"bytes": bytes}
        else:
            frame = {"text": text if text is not None else _json(json)}
        self._consumers._sockets.receive(self, frame)
        self._consumers._raise()

    def receive(self) -> Any:
        """The next text or bytes that it was sent. Raises `AssertionError` when there is nothing."""
        if not self.messages:
            raise AssertionError(f"nothing was sent to this client: {self!r}")
        message = self.messages.popleft()
        return message["text"] if "text" in message else message["bytes"]

    def receive_json(self) -> Any:
        """The same, decoded."""
        return json.loads(self.receive())

    def disconnect(self, code: int = 1000) -> None:
        """Go away; the consumers are told."""
        self._gone(code)
        self._consumers._raise()

    def __repr__(self) -> str:
        state = "connected" if self.connected else f"closed with {self.close_code}" if self.close_code else "waiting"
        return f"<Client {self.name} at {self.path}, {state}>"

    # What consumers want of it; see `consumers.sockets.Client`

    def say(self, content: Mapping[str, Any], at: int = 0) -> None:
        if self.close_code is not None:
            return
        close = close_of(content)
        sent = {kind: content[kind] for kind in ("text", "bytes") if content.get(kind) is not None}
        self.accepted = self.accepted or bool(sent or content.get("accept"))
        if sent:
            self.messages.append(sent)
        if close is not None:
            self.close_code = close if self.accepted else 403
            self._gone(close if self.accepted else 1006)

    def join(self, group: str, since: Position) -> None:
        self._consumers._groups.setdefault(group, {})[self.name] = self

    def leave(self, group: str) -> None:
        members = self._consumers._groups.get(group, {})
        members.pop(self.name, None)

    def consumer_failed(self) -> None:
        self.close_code = 500

    def settled(self, group: str) -> None: ...
    def unrouted(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def lost(self) -> None: ...

    def _gone(self, code: int) -> None:
        for group in list(self._consumers._groups):
            self.leave(group)
        if self._consumers._clients.pop(self.name, None) is not None:
            self._consumers._sockets.disconnect(self, code)


class _Direct:
    """Threads that are none."""

    def call(self, function: Callable[[], Any]) -> Deferred[Any]:
        try:
            return succeed(function())
        except Exception:  # noqa: BLE001 - it is raised where somebody waits for it
            return fail()

    def wait(self, begin: Callable[[], Deferred[None]]) -> None:
        _wait(begin)


def _wait(begin: Callable[[], Deferred[None]]) -> None:
    failures: list[Failure] = []
    begin().addErrback(failures.append)
    if failures:
        failures[0].raiseException()


class _Layer:
    """See `consumers.run.Layer`."""

    def __init__(self, consumers: Consumers) -> None:
        self._consumers: Final = consumers

    def carry_out(self, effects: Sequence[Effect], key: str) -> Deferred[None]:
        for number, effect in enumerate(effects):
            content = _carried(effect.content)
            match effect:
                case SendGroup(group, _):
                    for member in list(self._consumers._groups.get(group, {}).values()):
                        member.say(content)
                case Send(channel, _) if connection := connection_of(channel):
                    client = self._consumers._clients.get(connection)
                    if client is not None:
                        client.say(content)
                case Send(channel, _) if channel == DELAY:
                    self._consumers.posted.append((channel, content))
                    self._consumers._queue.delay(Event(f"{key}/{number}", channel, content), content["delay"] / 1000)
                case Send(channel, _):
                    self._consumers.posted.append((channel, content))
                    reply = content.get("reply_channel")
                    behind = connection_of(reply) if isinstance(reply, str) else None
                    self._consumers._queue.post(Event(f"{key}/{number}", channel, content), behind)
        return succeed(None)

    def add(self, group: str, channel: str) -> Deferred[None]:
        client = self._consumers._clients.get(connection_of(channel) or "")
        if client is not None:
            client.join(group, _NOWHERE)
        return succeed(None)

    def discard(self, group: str, channel: str) -> Deferred[None]:
        client = self._consumers._clients.get(connection_of(channel) or "")
        if client is not None:
            client.leave(group)
        return succeed(None)

    def tell(self, connection: str, instruction: Instruction, key: str) -> Deferred[None]:
        self._consumers._sockets.instruct(connection, instruction)
        return succeed(None)


def _carried(content: Mapping[str, Any]) -> dict[str, Any]:
    """As it would be after its way through a queue."""
    carried: dict[str, Any] = codec.decode(codec.encode(dict(content)))
    return carried


def _json(value: Any) -> str:
    return json.dumps(value)


START: Final = 30.0
"""Seconds that a server may take to start, and to stop."""


@contextmanager
def running_server(
    routing: str,
    *options: str,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A server of its own process that runs ``--routing ROUTING``; gives its URL, such as ``ws://127.0.0.1:41234``.

    options
        more of `twistd chat`; unless they say something else, nothing is kept
    directory
        where it runs, and from where it imports the routing; the current one by default
    environ
        added to the environment

    Raises `RuntimeError`, with what it said, when it does not start.
    """
    relay = () if any(option.startswith("--relay") for option in options) else ("--relay", "memory:")
    command = [
        *(str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="),
        *("chat", "--port", "tcp:0:interface=127.0.0.1", "--drain", "1", *relay, "--routing", routing, *options),
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - the arguments are the test's
            command,
            cwd=directory,
            env={**os.environ, **(environ or {}), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _url(process, log)
        finally:
            process.terminate()
            try:
                process.wait(START)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    deadline = time.monotonic() + START
    while True:
        ended = process.poll() is not None
        log.seek(0)
        said = log.read()
        found = re.search(r"open http(s?)://([^/\s]+)/", said)
        if found:
            return f"ws{found[1]}://{found[2]}"
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start:\n{said}")
        time.sleep(0.02)
