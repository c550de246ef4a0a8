"""One address that tries to stall, exhaust or end a server, in all the ways that once worked.

    python -m tests.attack.attackers --port 8080 --seconds 20 [NAME ...]

Loops are bounded by time, and every connection goes to 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import H2Error

from tests.attack.honest import frame, handshake

ADDRESS: Final = "127.9.9.9"
"""All of them come from here."""

PAUSE: Final = 0.05
"""Seconds until a connection that the server ended is opened again."""

HOLD_SECONDS: Final = 5.0
"""Seconds that a client that does not read stays."""

EMOJI: Final = "\N{GRINNING FACE}" * 4_096
"""A longest message: 16 KiB in UTF-8."""

HOST: Final = "Host: 127.0.0.1\r\n"


class Attack:
    """Where the server is, and until when it is attacked."""

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._until = time.monotonic() + seconds

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self._until

    async def many(self, number: int, attacker: Callable[[], Awaitable[None]]) -> None:
        """Run so many attackers side by side, each again and again."""
        await asyncio.gather(*(self._again(attacker) for _ in range(number)))

    async def _again(self, attacker: Callable[[], Awaitable[None]]) -> None:
        while self.goes_on:
            with suppress(OSError, EOFError, H2Error, TimeoutError):
                await asyncio.wait_for(attacker(), max(0.1, self._until - time.monotonic()))
            await asyncio.sleep(PAUSE)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, local_addr=(ADDRESS, 0))

    async def flood(self, chunks: Iterator[bytes], first: bytes = b"") -> None:
        """Send all of it as fast as the server takes it, and throw away what it answers."""
        reader, writer = await self.connect()
        reading = asyncio.ensure_future(_discard(reader))
        try:
            writer.write(first)
            for chunk in chunks:
                if not self.goes_on or reading.done():
                    return
                writer.write(chunk)
                await writer.drain()
            await reading
        finally:
            reading.cancel()
            writer.transport.abort()

    async def hold(self, first: bytes) -> None:
        """Ask for something, and never read it."""
        _, writer = await self.connect()
        try:
            assert isinstance(writer.transport, asyncio.Transport)
            writer.transport.pause_reading()
            writer.write(first)
            # Whether the server ended it is not seen without reading; all are let go when the time is over.
            await asyncio.sleep(HOLD_SECONDS)
        finally:
            writer.transport.abort()


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


def _get(path: str, fields: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\n{HOST}{fields}\r\n".encode()


def _post(room: str, message: str) -> bytes:
    body = json.dumps({"handle": "mallory", "message": message}, ensure_ascii=False).encode()
    head = f"POST /chat/{room} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _forever(chunk: bytes) -> Iterator[bytes]:
    while True:
        yield chunk


async def pipelined(attack: Attack) -> None:
    """Thousands of small requests in each read."""
    await attack.many(20, lambda: attack.flood(_forever(_get("/nothing") * 3_000)))


async def guesses(attack: Attack) -> None:
    """API keys that are none, and pages that are not there."""
    wrong = _get("/api/nodes", "X-API-Key: 0123456789abcdef0123456789abcdef\r\n") + _get("/static/nothing.js")
    await attack.many(10, lambda: attack.flood(_forever(wrong * 100)))


async def pings(attack: Attack) -> None:
    """Frames that carry nothing."""
    chunk = (frame(0x89) + frame(0x8A)) * 2_000
    await attack.many(20, lambda: attack.flood(_forever(chunk), handshake("attack")))


async def fragments(attack: Attack) -> None:
    """One message in fragments that are empty and never end."""
    await attack.many(5, lambda: attack.flood(_forever(frame(0x00) * 5_000), handshake("attack") + frame(0x01)))


async def posts(attack: Attack) -> None:
    """More messages on one connection than it may send."""
    await attack.many(2, lambda: attack.flood(_forever(_post("attack", "again") * 100)))


async def ghosts(attack: Attack) -> None:
    """Reads of rooms that never were."""
    numbers = count()
    await attack.many(5, lambda: attack.flood(_get(f"/chat/ghost-{next(numbers)}?limit=1") for _ in range(100_000)))


async def rooms(attack: Attack) -> None:
    """A long message in each of very many rooms."""
    numbers = count()
    await attack.many(5, lambda: attack.flood(_post(f"new-{next(numbers)}", EMOJI) for _ in range(100_000)))


async def sleepers(attack: Attack) -> None:
    """Clients that ask for a long history and never read it."""
    with suppress(TimeoutError):  # it would wait for more answers
        await asyncio.wait_for(attack.flood(iter([_post("long", EMOJI) * 30])), 1.0)
    stream = _get("/chat/long?history=200", "Accept: text/event-stream\r\n")
    page = _get("/chat/long?limit=200") * 20
    await asyncio.gather(
        attack.many(60, lambda: attack.hold(handshake("long", "?history=200"))),
        attack.many(60, lambda: attack.hold(stream)),
        attack.many(60, lambda: attack.hold(page)),
        attack.many(1, lambda: attack.flood(_forever(_post("long", EMOJI)))),
    )


async def bodies(attack: Attack) -> None:
    """HTTP/2 requests whose bodies never end."""
    await attack.many(8, lambda: _send_bodies(attack))


async def _send_bodies(attack: Attack) -> None:
    reader, writer = await attack.connect()
    try:
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        head = [(":method", "POST"), (":path", "/chat/attack"), (":scheme", "http"), (":authority", "127.0.0.1")]
        streams = [client.get_next_available_stream_id() + 2 * number for number in range(250)]
        for stream in streams:
            client.send_headers(stream, [*head, ("content-type", "application/json")])
        while attack.goes_on:
            for stream in streams:
                with suppress(H2Error):  # it was ended by the server
                    room = min(client.local_flow_control_window(stream), client.max_outbound_frame_size)
                    if room > 0:
                        client.send_data(stream, b"x" * room)
            writer.write(client.data_to_send())
            await writer.drain()
            data = await reader.read(1 << 16)
            if not data:
                return
            client.receive_data(data)
    finally:
        writer.transport.abort()


ATTACKS: Final[dict[str, Callable[[Attack], Awaitable[None]]]] = {
    attack.__name__: attack for attack in (pipelined, guesses, pings, fragments, posts, ghosts, rooms, sleepers, bodies)
}


async def run(names: list[str], port: int, seconds: float) -> None:
    attack = Attack(port, seconds)
    await asyncio.gather(*(ATTACKS[name](attack) for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in ATTACKS]
    if unknown:
        parser.error(f"unknown attack {unknown[0]!r}: expected one of {', '.join(ATTACKS)}")
    asyncio.run(run(given.names or list(ATTACKS), given.port, given.seconds))


if __name__ == "__main__":
    main()
