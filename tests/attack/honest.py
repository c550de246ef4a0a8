"""Members that behave, in a process of their own: what they notice of an attack on their server.

    python -m tests.attack.honest --port 8080 --members 1000 --rooms 50 --seconds 20

Each member has an address of its own, is in one room, and writes once in `INTERVAL` seconds. The result is one line of
JSON, the fields of `Result`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import time
from dataclasses import asdict, dataclass
from typing import Final

INTERVAL: Final = 20.0
"""Seconds between two messages of one member."""

JOIN_SECONDS: Final = 60.0
"""Seconds that all members together have to connect."""

SETTLE_SECONDS: Final = 10.0
"""Seconds after the last message in which it must have reached everyone."""

CONNECTS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Result:
    """What the members saw. Times are seconds, from sending to receiving."""

    members: int
    sent: int
    delivered: int
    cut_off: int
    missing: int
    out_of_order: int
    median: float
    late: float
    """The 99th percentile."""
    latest: float


class Member(asyncio.Protocol):
    """One WebSocket; it masks with zeroes, and answers pings."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: list[str] = []
        self.delays: list[float] = []
        self.lost = False
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(handshake(self.room))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                self.opened.set_exception(ConnectionError(head.decode("ascii", "replace")))
                return
            self._data = rest
            self.opened.set_result(None)
        self._read_frames()

    def say(self, text: str) -> None:
        assert self._transport is not None
        self._transport.write(frame(0x81, json.dumps({"handle": "honest", "message": text}).encode()))

    def close(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def _read_frames(self) -> None:
        at, data = 0, self._data
        while len(data) - at >= 2:
            size, begin = data[at + 1], at + 2
            if size == 126:
                if len(data) - at < 4:
                    break
                (size,), begin = struct.unpack_from("!H", data, at + 2), at + 4
            if len(data) < begin + size:
                break
            payload = data[begin : begin + size]
            if data[at] == 0x81:
                self._message(json.loads(payload)["message"])
            elif data[at] == 0x89 and self._transport is not None:
                self._transport.write(frame(0x8A, payload))
            at = begin + size
        self._data = data[at:]

    def _message(self, text: str) -> None:
        self.seen.append(text)
        self.delays.append(time.monotonic() - float(text.rpartition(" ")[2]))


def handshake(room: str, query: str = "") -> bytes:
    """A request for a WebSocket in `room`."""
    return (
        f"GET /chat/{room}{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def frame(first: int, payload: bytes = b"") -> bytes:
    """A client's frame whose mask is zero, which leaves the payload as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size)
    return bytes([first]) + length + b"\0\0\0\0" + payload


async def watch(port: int, members: int, rooms: int, seconds: float) -> Result:
    """Connect all members, let them talk for so many seconds, and compare what they saw."""
    loop = asyncio.get_running_loop()
    turn = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def join(number: int) -> Member:
        async with turn:
            address = f"127.1.{number // 250}.{1 + number % 250}"
            _, member = await loop.create_connection(
                lambda: Member(f"honest-{number % rooms}"), "127.0.0.1", port, local_addr=(address, 0)
            )
            await member.opened
            return member

    everyone = await asyncio.wait_for(asyncio.gather(*map(join, range(members))), JOIN_SECONDS)
    _say("joined")
    sent = 0
    pause = INTERVAL / members
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        due = int((now - began) / pause)
        while sent <= due:
            everyone[sent % members].say(f"{sent} {time.monotonic()}")
            sent += 1
        await asyncio.sleep(pause / 2)
    expected = [sum(1 for number in range(sent) if number % members % rooms == room) for room in range(rooms)]
    for _ in range(int(SETTLE_SECONDS / 0.1)):
        if all(member.lost or len(member.seen) >= expected[n % rooms] for n, member in enumerate(everyone)):
            break
        await asyncio.sleep(0.1)
    result = compare(everyone, expected, sent)
    for member in everyone:
        member.close()
    return result


def compare(everyone: list[Member], expected: list[int], sent: int) -> Result:
    rooms = len(expected)
    missing = disorder = 0
    for number, member in enumerate(everyone):
        missing += max(0, expected[number % rooms] - len(member.seen))
        # All of a room have seen the same, in one order.
        disorder += member.seen != everyone[number % rooms].seen[: len(member.seen)]
    delays = sorted(delay for member in everyone for delay in member.delays) or [float("inf")]
    return Result(
        members=len(everyone),
        sent=sent,
        delivered=sum(len(member.seen) for member in everyone),
        cut_off=sum(member.lost for member in everyone),
        missing=missing,
        out_of_order=disorder,
        median=delays[len(delays) // 2],
        late=delays[int(len(delays) * 0.99)],
        latest=delays[-1],
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--members", type=int, default=1_000)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    _say(json.dumps(asdict(asyncio.run(watch(given.port, given.members, given.rooms, given.seconds)))))


if __name__ == "__main__":
    main()
