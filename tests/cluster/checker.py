"""Clients of one room on many nodes, which write down what they see, and what must be true of it in the end.

- A client sees what follows its position in the one order, without a gap, nothing twice; or it is told ``reset``.
- Every message that was acknowledged is in the history, once, on every node.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from twisted_chat.core.publication import Position

CLIENTS: Final = 12
PACE: Final = 0.1
"""Seconds from an acknowledgement to the next message."""
ANSWER: Final = 3.0
"""Seconds until what became of a message counts as unknown; it is sent again elsewhere then."""
DEADLINE: Final = 90.0
AGAIN: Final = frozenset({429, 502, 503, 504, 507})
Frame = dict[str, Any]


class Violation(AssertionError):  # noqa: N818 - what it is called
    """What was promised did not hold."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Of a message: the id it was given, and when the attempt began that was answered (`time.monotonic`)."""

    id: str
    asked: float


@dataclass(slots=True)
class Record:
    """What a client saw after `start`, messages and resets, and what it was told of its own messages, by text."""

    start: str
    seen: list[Frame] = field(default_factory=list)
    acknowledged: dict[str, Acknowledgement] = field(default_factory=dict)

    @property
    def at(self) -> str:
        """Where it stands."""
        return _place(self.seen[-1]) if self.seen else self.start

    @property
    def resets(self) -> int:
        return sum("event" in frame for frame in self.seen)


def violations(
    records: Mapping[str, Record],
    histories: Mapping[str, Sequence[Frame]],
    *,
    resets: bool = False,
    rewritten: bool = False,
    kept_since: float = 0.0,
) -> Iterator[str]:
    """What is wrong, in words.

    histories
        all that each node keeps of the room
    resets, rewritten
        the history may have been lost, or its end replaced by another: clients are told ``reset`` then
    kept_since
        what was acknowledged to an attempt after this is kept
    """
    [(first, history), *others] = histories.items()
    for node, another in others:
        if another != history:
            yield f"{node} has another history than {first}: {len(another)} messages, not {len(history)}"
    kept = {message["id"]: message for message in history}
    texts = Counter(message["message"] for message in history)
    yield from (f"{text!r} is kept {times} times" for text, times in texts.items() if times > 1)
    top = history[-1]["id"] if history else None
    places: dict[tuple[str, int], str] = {}
    for name, record in records.items():
        if record.resets and not resets:
            yield f"{name} was told reset {record.resets} times"
        if top is not None and record.at != top:
            yield f"{name} stays at {record.at}, the newest is {top}"
        yield from _broken_chain(name, record, kept)
        for frame in () if rewritten else record.seen:
            at = _position(_place(frame))
            known = places.setdefault((at.epoch, at.offset), _place(frame))
            if known != _place(frame):
                yield f"{name} saw {_place(frame)} where another saw {known}"
        for text, answer in record.acknowledged.items():
            if answer.asked >= kept_since and kept.get(answer.id, {}).get("message") != text:
                yield f"{text!r} of {name} was acknowledged as {answer.id}, and is not kept"


def _broken_chain(name: str, record: Record, kept: Mapping[str, Frame]) -> Iterator[str]:
    at = record.start
    resets_left = record.resets
    for frame in record.seen:
        place = _place(frame)
        if "event" in frame:
            resets_left -= 1
        else:
            before, here = _position(at), _position(place)
            began = before.offset == 0 and here.offset == 1 and before.tag < here.tag
            if not began and (here.epoch, here.offset) != (before.epoch, before.offset + 1):
                yield f"{name} saw {place} right after {at}"
            if not resets_left and kept.get(place) != frame:
                yield f"{name} saw {frame}, which is not kept"
        at = place


def _place(frame: Frame) -> str:
    return str(frame["position"] if "event" in frame else frame["id"])


def _position(text: str) -> Position:
    position = Position.parse(text)
    if position is None:
        raise Violation(f"{text!r} is no id")
    return position


class RefusedError(Exception):
    """The server did not take a message."""


class Client:
    """Listens on one node after the other, each when the one before lets go, and says one thing after the other.

    What it says goes over its socket first or is posted; when the outcome is not known, or the server asks for it, it
    is posted again with the same key, also to another node.
    """

    def __init__(self, nodes: Sequence[str], room: str, handle: str, start: str, first: int) -> None:
        self.record = Record(start)
        self.handle = handle
        self.came = 0
        """How often it was let in."""
        self.refusals: Counter[str] = Counter()
        self.repeated = 0
        """Messages that had been stored when they were sent again."""
        self.problems: list[str] = []
        self.quiet = False
        self.node = first
        self._nodes = nodes
        self._path = f"/chat/{quote(room)}"
        self._socket: ClientConnection | None = None
        self._waiting: dict[str, asyncio.Future[str]] = {}

    @property
    def is_here(self) -> bool:
        return self._socket is not None

    async def listen(self) -> None:
        """For ever."""
        while True:
            url = self._nodes[self.node % len(self._nodes)].replace("http", "ws", 1)
            query = f"?since={self.record.at}&handle={quote(self.handle)}"
            try:
                async with connect(url + self._path + query, proxy=None, open_timeout=30, close_timeout=1) as socket:
                    self.came += 1
                    self._socket = socket
                    async for frame in socket:
                        self._heard(json.loads(frame))
            except (OSError, WebSocketException, TimeoutError):
                pass
            finally:
                self._lost()
            self.node += 1
            await asyncio.sleep(PACE)

    async def leave(self) -> None:
        """As if its network changed: it comes back elsewhere."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _lost(self) -> None:
        self._socket = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RefusedError("the connection is gone"))

    def _heard(self, frame: Frame) -> None:
        if "error" in frame:
            self.refusals[frame["error"]["code"]] += 1
            waiting = self._waiting.get(frame["error"].get("key", ""))
            if waiting is not None and not waiting.done():
                waiting.set_exception(RefusedError(frame["error"]["code"]))
            return
        self.record.seen.append(frame)
        waiting = self._waiting.get(frame.get("key", "")) if frame.get("handle") == self.handle else None
        if waiting is not None and not waiting.done():
            waiting.set_result(frame["id"])

    async def speak(self) -> None:
        """Until it is to be quiet."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            for number in itertools.count(1):
                if self.quiet:
                    return
                await self._say(http, f"{self.handle} {number}", by_socket=number % 2 == 0)
                await asyncio.sleep(PACE)

    async def _say(self, http: httpx.AsyncClient, text: str, *, by_socket: bool) -> None:
        message = {"handle": self.handle, "message": text, "key": text}
        if by_socket and self._socket is not None:
            asked = time.monotonic()
            waiting = self._waiting[text] = asyncio.get_running_loop().create_future()
            try:
                await self._socket.send(json.dumps(message))
                self._acknowledged(text, await asyncio.wait_for(waiting, ANSWER), asked)
                return
            except (OSError, WebSocketException, TimeoutError, RefusedError):
                waiting.cancel()  # posting it is how to find out
            finally:
                del self._waiting[text]
        for node in itertools.count(self.node):
            asked = time.monotonic()
            try:
                answer = await http.post(self._nodes[node % len(self._nodes)] + self._path, json=message)
            except httpx.TransportError:
                self.refusals["no answer"] += 1
            else:
                if answer.status_code in {200, 201}:
                    self.repeated += answer.status_code == 200
                    self._acknowledged(text, answer.json()["id"], asked)
                    return
                self.refusals[answer.json()["error"]["code"]] += 1
                if answer.status_code not in AGAIN:
                    self.problems.append(f"{text!r} of {self.handle} was refused: {answer.text}")
                    return
            await asyncio.sleep(PACE)

    def _acknowledged(self, text: str, identity: str, asked: float) -> None:
        self.record.acknowledged[text] = Acknowledgement(identity, asked)


class Crowd:
    """A dozen clients, in a thread of their own, spread over the nodes."""

    def __init__(self, nodes: Sequence[str], room: str, clients: int = CLIENTS) -> None:
        self.nodes: Final = list(nodes)
        self.room: Final = room
        begin = httpx.post(
            f"{self.nodes[0]}/chat/{quote(room)}",
            json={"handle": "begin", "message": "begin"},
            trust_env=False,
            timeout=60,
        )
        begin.raise_for_status()
        start = begin.json()["id"]
        self.clients: Final = [Client(self.nodes, room, f"client {n}", start, n) for n in range(clients)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._listening = [asyncio.run_coroutine_threadsafe(each.listen(), self._loop) for each in self.clients]
        self.until(lambda: all(client.is_here for client in self.clients), "all clients to be let in")
        self._speaking = [asyncio.run_coroutine_threadsafe(each.speak(), self._loop) for each in self.clients]

    @property
    def acknowledged(self) -> int:
        return sum(len(client.record.acknowledged) for client in self.clients)

    @property
    def resets(self) -> int:
        return sum(client.record.resets for client in self.clients)

    def until(self, condition: Any, what: str) -> None:
        """Wait. Raises `Violation` when it does not come true."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > deadline:
                raise Violation(f"waited in vain for {what}")
            time.sleep(0.05)

    def talk(self, messages: int = 60) -> None:
        """Wait until so many more were acknowledged, and each client had some of them."""
        goals = {each: len(each.record.acknowledged) + messages // len(self.clients) for each in self.clients}
        self.until(
            lambda: all(len(each.record.acknowledged) >= goal for each, goal in goals.items()),
            f"acknowledgements; refused were {self.refusals}",
        )

    @property
    def refusals(self) -> Counter[str]:
        return sum((client.refusals for client in self.clients), Counter())

    def leave(self, clients: Collection[Client]) -> None:
        """These lose their connections."""
        for client in clients:
            asyncio.run_coroutine_threadsafe(client.leave(), self._loop).result(DEADLINE)

    def close(self) -> None:
        for task in (*self._listening, *self._speaking):
            task.cancel()
        asyncio.run_coroutine_threadsafe(_settled(), self._loop).result(DEADLINE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def check(self, *, resets: bool = False, rewritten: bool = False, kept_since: float = 0.0) -> Sequence[Frame]:
        """Let them finish; the history, when everything is as promised. Raises `Violation`. For the rest, see
        `violations`.
        """
        for client in self.clients:
            client.quiet = True
        self.until(lambda: all(task.done() for task in self._speaking), f"the last answers: {self.refusals}")
        for task in self._speaking:
            task.result()
        histories = {node: history(node, self.room) for node in self.nodes}
        top = histories[self.nodes[0]][-1]["id"]
        deadline = time.monotonic() + DEADLINE
        while any(each.record.at != top for each in self.clients) and time.monotonic() < deadline:
            time.sleep(0.05)
        records = {client.handle: client.record for client in self.clients}
        found = [problem for client in self.clients for problem in client.problems]
        found += violations(records, histories, resets=resets, rewritten=rewritten, kept_since=kept_since)
        if found:
            raise Violation("\n".join([f"{len(found)} violations in room {self.room}", *found[:20]]))
        return histories[self.nodes[0]]


async def _settled() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def history(node: str, room: str) -> list[Frame]:
    """All that a node keeps of a room."""
    with httpx.Client(base_url=node, trust_env=False, timeout=60) as http:
        ask = {"limit": "200"}
        messages: list[Frame] = []
        while True:
            page = http.get(f"/chat/{quote(room)}", params=ask).raise_for_status().json()
            messages = page["messages"] + messages
            if not page["more"]:
                return messages
            ask["before"] = messages[0]["id"]
