"""Python's clients, as their own documentation uses them: `websockets`, `aiohttp` and `httpx`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.sync.client import connect as connect_sync

from tests.foreign.conftest import Run, Server

README = Path(__file__).parents[2] / "README.rst"
PATIENCE = 120.0


def socket_url(room: str) -> str:
    return room.replace("http", "ws", 1)


def says(handle: str, message: str, **others: str) -> str:
    return json.dumps({"handle": handle, "message": message, **others})


async def hear(socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(await socket.recv()) for _ in range(count)]


async def events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, str]]:
    """Server-sent events that have data, in the way of the HTML standard."""
    fields: dict[str, str] = {}
    async for raw in lines:
        line = raw.rstrip("\r\n")
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not line:
            if "data" in fields:
                yield fields
            fields = {}


async def take(source: AsyncIterator[dict[str, str]], count: int) -> list[dict[str, Any]]:
    return [json.loads((await anext(source))["data"]) for _ in range(count)]


# websockets


def test_websockets_talk(run: Run, room: str) -> None:
    async def talk() -> None:
        async with connect(socket_url(room)) as ann, connect(socket_url(room)) as bob:
            await ann.send(says("ann", "hello"))
            await bob.send(says("bob", "hello yourself"))
            heard = await hear(ann, 2)
            assert await hear(bob, 2) == heard
            assert {(each["handle"], each["message"]) for each in heard} == {
                ("ann", "hello"),
                ("bob", "hello yourself"),
            }
            assert all(set(each) == {"id", "timestamp", "handle", "message"} for each in heard)
            assert all(datetime.fromisoformat(each["timestamp"]).tzinfo for each in heard)

    run(talk())


def test_websockets_offers_compression_and_gets_none(run: Run, room: str) -> None:
    async def talk() -> None:
        async with connect(socket_url(room), subprotocols=None, compression="deflate") as ann:
            assert ann.request is not None
            assert "permessage-deflate" in ann.request.headers["Sec-WebSocket-Extensions"]
            assert not ann.protocol.extensions
            await ann.send(says("ann", "a" * 4000))
            assert (await hear(ann, 1))[0]["message"] == "a" * 4000

    run(talk())


def test_websockets_learns_who_serves_but_no_version(run: Run, room: str) -> None:
    async def look() -> None:
        async with connect(socket_url(room)) as ann:
            assert ann.response is not None
            assert ann.response.headers["Server"] == "twisted_chat"

    run(look())


def test_websockets_fragments_pings_and_closes(run: Run, room: str) -> None:
    async def talk() -> None:
        async with connect(socket_url(room)) as ann:
            await ann.send(['{"handle": "ann", ', '"message": ', '"in three frames"}'])
            assert (await hear(ann, 1))[0]["message"] == "in three frames"
            await (await ann.ping(b"are you there?"))
        assert (ann.close_code, ann.protocol.close_rcvd_then_sent) == (1000, False)
        assert ann.protocol.close_rcvd is not None

    run(talk())


def test_websockets_mistakes_are_told_and_do_no_harm(run: Run, room: str) -> None:
    async def talk() -> None:
        async with connect(socket_url(room)) as ann:
            for wrong, code in (
                (b"\x00\x01", "binary_frame"),
                ("hello?", "bad_json"),
                ('{"handle": "ann"}', "bad_message"),
                (says("", "hello"), "bad_handle"),
                (says("ann", "long" * 1025), "message_too_long"),
            ):
                await ann.send(wrong)
                assert (await hear(ann, 1))[0]["error"]["code"] == code
            await ann.send(says("ann", "right"))
            assert (await hear(ann, 1))[0]["message"] == "right"

    run(talk())


def test_websockets_is_told_why_it_may_not_come_in(run: Run, server: Server, room: str) -> None:
    async def refused(url: str, **options: Any) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, **options):
                pass
        response = caught.value.response
        code: str = json.loads(response.body)["error"]["code"]
        return response.status_code, code

    async def try_it() -> None:
        base = socket_url(server.url)
        assert await refused(f"{base}/chat/a/../b") == (400, "bad_room")
        assert await refused(f"{base}/elsewhere") == (404, "not_found")
        assert await refused(f"{socket_url(room)}?since=yesterday") == (400, "bad_request")
        assert await refused(socket_url(room), origin="https://evil.example") == (403, "origin_not_allowed")

    run(try_it())


def test_websockets_comes_back_to_where_it_was(run: Run, room: str) -> None:
    async def talk() -> None:
        async with connect(socket_url(room)) as ann:
            await ann.send(says("ann", "one"))
            last = (await hear(ann, 1))[0]["id"]
        async with connect(socket_url(room)) as carl:
            for message in ("two", "three"):
                await carl.send(says("carl", message))
            await hear(carl, 2)
            async with connect(f"{socket_url(room)}?since={last}") as ann:
                await carl.send(says("carl", "four"))
                assert [each["message"] for each in await hear(ann, 3)] == ["two", "three", "four"]

    run(talk())


def test_websockets_sees_who_comes_and_goes(run: Run, room: str) -> None:
    async def watch() -> None:
        async with connect(f"{socket_url(room)}?events=presence,typing&handle=ann") as ann:
            assert await hear(ann, 1) == [{"event": "presence", "members": ["ann"]}]
            async with connect(f"{socket_url(room)}?handle=bob") as bob:
                await bob.send(json.dumps({"handle": "bob", "typing": True}))
            assert await hear(ann, 3) == [
                {"event": "join", "handle": "bob"},
                {"event": "typing", "handle": "bob"},
                {"event": "leave", "handle": "bob"},
            ]

    run(watch())


def test_websockets_comes_back_by_itself_when_the_server_restarts(run: Run, own_server: Server) -> None:
    """`async for socket in connect(…)`, which its documentation recommends for what runs for long."""

    async def follow() -> None:
        url = socket_url(own_server.room())
        ends: list[Close | None] = []
        async for socket in connect(url):
            try:
                await socket.send(says("ann", f"coming no. {len(ends) + 1}"))
                assert (await hear(socket, 1))[0]["message"] == f"coming no. {len(ends) + 1}"
                if ends:
                    await socket.close()
                    break
                restarted = asyncio.get_running_loop().run_in_executor(None, restart)
                await hear(socket, 1)
            except ConnectionClosed as closed:
                ends.append(closed.rcvd)
                await restarted
        (end,) = ends
        assert end is not None
        assert end.code == 1001
        assert re.fullmatch(r"going_away: .*retry=\d+\.\d", end.reason)

    def restart() -> None:
        own_server.stop()
        own_server.start()

    run(follow())


def test_websockets_in_threads(room: str) -> None:
    with connect_sync(socket_url(room)) as ann:
        for number in range(20):
            ann.send(says("ann", f"no. {number}"))
        heard = [json.loads(ann.recv(timeout=60)) for _ in range(20)]
    assert [each["message"] for each in heard] == [f"no. {number}" for number in range(20)]
    with connect_sync(f"{socket_url(room)}?history=5") as bob:
        bob.send(says("bob", "and me"))
        assert [json.loads(bob.recv(timeout=60)) for _ in range(5)] == heard[-5:]
        assert json.loads(bob.recv(timeout=60))["message"] == "and me"


def test_the_program_of_the_readme(server: Server) -> None:
    """With another port, and another room than all the other tests."""
    block = re.search(r"\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", README.read_text(encoding="utf-8"))
    assert block is not None
    program = re.sub(r"^ {3}", "", block[1], flags=re.MULTILINE)
    host = f"127.0.0.1:{server.port}"
    program = program.replace("127.0.0.1:8080/chat/lobby", f"{host}/chat/readme-python")
    assert host in program
    command = [sys.executable, "-u", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    assert "'handle': 'joe', 'message': 'hello from Python'" in line


# aiohttp


def test_aiohttp_websocket(run: Run, room: str) -> None:
    async def talk() -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(room, heartbeat=60.0, compress=15) as ann,
            session.ws_connect(room, autoping=True) as bob,
        ):
            assert not ann.compress
            await ann.send_json({"handle": "ann", "message": "hello", "key": "k1"})
            heard = await bob.receive_json()
            assert await ann.receive_json() == heard
            assert (heard["handle"], heard["message"], heard["key"]) == ("ann", "hello", "k1")
            await ann.send_bytes(b"hello")
            assert (await ann.receive_json())["error"]["code"] == "binary_frame"
            await ann.close()
            assert ann.close_code == 1000
            await bob.send_json({"handle": "bob", "message": "bye"})
            assert (await bob.receive_json())["message"] == "bye"

    run(talk())


def test_aiohttp_is_told_why_it_may_not_come_in(run: Run, server: Server, room: str) -> None:
    async def try_it() -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(room, origin="https://evil.example")
            assert caught.value.status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"{server.url}/chat/%00")
            assert caught.value.status == 400

    run(try_it())


def test_aiohttp_event_stream(run: Run, room: str) -> None:
    async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        async for line in response.content:
            yield line.decode()

    async def follow() -> None:
        accept = {"Accept": "text/event-stream"}
        async with aiohttp.ClientSession() as session:
            async with session.get(room, headers=accept) as response:
                assert response.content_type == "text/event-stream"
                stream = events(lines(response))
                async with session.post(room, json={"handle": "ann", "message": "one"}) as posted:
                    assert posted.status == 201
                    stored = await posted.json()
                event = await anext(stream)
                assert json.loads(event["data"]) == stored
                assert event["id"] == stored["id"]
            for message in ("two", "three"):
                await session.post(room, json={"handle": "ann", "message": message})
            async with session.get(room, headers=accept | {"Last-Event-ID": event["id"]}) as response:
                assert [each["message"] for each in await take(events(lines(response)), 2)] == ["two", "three"]

    run(follow())


# httpx


def test_httpx_posts_and_reads(room: str) -> None:
    with httpx.Client(timeout=PATIENCE) as client:
        first = client.post(room, json={"handle": "ann", "message": "one", "key": "k1"})
        again = client.post(room, json={"handle": "ann", "message": "one", "key": "k1"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        rest = [client.post(room, json={"handle": "ann", "message": str(number)}).json() for number in range(2, 8)]
        everything = [first.json(), *rest]

        page = client.get(room, params={"limit": 3}).json()
        assert page["messages"] == everything[-3:]
        assert (page["complete"], page["more"]) == (True, True)
        before = client.get(room, params={"limit": 3, "before": page["messages"][0]["id"]}).json()
        assert before["messages"] == everything[-6:-3]
        since = client.get(room, params={"since": everything[0]["id"]}).json()
        assert since == {"messages": rest, "position": rest[-1]["id"], "complete": True, "more": False}


def test_httpx_form_is_refused(room: str) -> None:
    answer = httpx.post(room, data={"handle": "ann", "message": "one"}, timeout=PATIENCE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert httpx.get(room, timeout=PATIENCE).json()["messages"] == []


def test_httpx_keeps_one_connection(server: Server, room: str) -> None:
    """Refusals by a resource do not cost the connection either."""
    with httpx.Client(timeout=PATIENCE) as client:
        used = set()
        for method, path in (("GET", room), ("POST", room), ("GET", f"{server.url}/nothing"), ("DELETE", room)) * 3:
            answer = client.request(method, path)
            used.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(used) == 1


def test_httpx_event_stream_over_http2(run: Run, room: str) -> None:
    """HTTP/2 in the clear, by prior knowledge, everything on one connection."""

    async def follow() -> None:
        async with httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE) as client:
            await client.post(room, json={"handle": "ann", "message": "one"})
            wanted = client.stream("GET", f"{room}?history=10", headers={"Accept": "text/event-stream"})
            async with wanted as response:
                assert response.http_version == "HTTP/2"
                stream = events(response.aiter_lines())
                assert (await take(stream, 1))[0]["message"] == "one"
                stored = (await client.post(room, json={"handle": "ann", "message": "two"})).json()
                assert await take(stream, 1) == [stored]
                assert (await client.get(room)).json()["messages"][-1] == stored

    run(follow())


# All of them


def test_everyone_hears_the_same_in_the_same_order(run: Run, room: str) -> None:
    """All clients at once in one room, most of them talking at the same time."""
    accept = {"Accept": "text/event-stream"}
    each, speakers = 5, ("websockets", "aiohttp", "aiohttp-post", "httpx-post", "httpx-post-http2")
    count = each * len(speakers)

    async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
        async for line in response.content:
            yield line.decode()

    async def talk() -> list[list[dict[str, Any]]]:
        async with (
            connect(socket_url(room)) as by_websockets,
            aiohttp.ClientSession() as session,
            session.ws_connect(room) as by_aiohttp,
            session.get(room, headers=accept) as aiohttp_stream,
            httpx.AsyncClient(timeout=PATIENCE) as http1,
            http1.stream("GET", room, headers=accept) as stream1,
            httpx.AsyncClient(http1=False, http2=True, timeout=PATIENCE) as http2,
            http2.stream("GET", room, headers=accept) as stream2,
        ):

            async def aiohttp_posts(number: int) -> None:
                async with session.post(room, json={"handle": "aiohttp-post", "message": str(number)}) as posted:
                    assert posted.status == 201

            async def speak(number: int) -> None:
                await asyncio.gather(
                    by_websockets.send(says("websockets", str(number))),
                    by_aiohttp.send_json({"handle": "aiohttp", "message": str(number)}),
                    aiohttp_posts(number),
                    http1.post(room, json={"handle": "httpx-post", "message": str(number)}),
                    http2.post(room, json={"handle": "httpx-post-http2", "message": str(number)}),
                )

            async def aiohttp_hears() -> list[dict[str, Any]]:
                return [await by_aiohttp.receive_json() for _ in range(count)]

            for number in range(each):
                await speak(number)
            heard = await asyncio.gather(
                hear(by_websockets, count),
                aiohttp_hears(),
                take(events(lines(aiohttp_stream)), count),
                take(events(stream1.aiter_lines()), count),
                take(events(stream2.aiter_lines()), count),
            )
            return list(heard)

    heard = run(talk())
    history = httpx.get(room, params={"limit": 200}, timeout=PATIENCE).json()["messages"]
    assert len(history) == count
    assert all(one == history for one in heard)
    for speaker in speakers:
        mine = [message["message"] for message in history if message["handle"] == speaker]
        assert mine == [str(number) for number in range(each)]
