"""Who is measured: our server as a user runs it, what C can do at best, and the peers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from benchmarks import installation
from benchmarks.installation import BUILD, HERE, NODE_MODULES, PEERS

OURS: Final = "twisted_chat"
LIMITS: Final = HERE / "limits.toml"

ROOM: Final = ("-u", "/chat/bench", "-f", '{"handle":"b","message":"%s"}')
"""To the load generator: our URL of a room, and a message to it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that can be started.

    name
        in tables
    command
        makes its command line for a port; its working directory is empty. Raises `installation.MissingError`.
    load
        what the load generator has to be told about its URL and its messages
    environ
        variables besides those that are there
    ours
        whether it is part of this repository: a peer that fails is left out, but one of these ends the run
    """

    name: str
    command: Callable[[int], list[str]]
    load: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False


def twisted_chat(*options: str, relay: str = "memory:", endpoint: str = "tcp", name: str = OURS) -> Contender:
    """Our server with all its features; only the limits on rates and connections are raised, with one option.

    `options` are more options of ``twistd chat``. `endpoint` is ``tcp`` or ``tls``.
    """

    def command(port: int) -> list[str]:
        twistd = str(Path(sys.executable).with_name("twistd"))
        listen = ("-p", f"{endpoint}:{port}:interface=127.0.0.1")
        return [twistd, "-n", "--pidfile=", "chat", *listen, "--relay", relay, "--config", str(LIMITS), *options]

    return Contender(name, command, ROOM, ours=True)


# What the machine can do at best.

C_JOINING: Final = Contender("C, joining", lambda port: [str(BUILD / "cserver"), str(port), "joining"], ours=True)
C_ONE_BY_ONE: Final = Contender("C, one by one", lambda port: [str(BUILD / "cserver"), str(port)], ours=True)


# Peers


def _node(name: str, script: str, *load: str) -> Contender:
    def command(port: int) -> list[str]:
        return [installation.node(), str(PEERS / script), str(port)]

    return Contender(name, command, load, {"NODE_PATH": str(NODE_MODULES)})


NODE_WS: Final = _node("node ws", "node_ws.js")
SOCKET_IO: Final = _node("socket.io", "socket_io.js", "-E", "-u", "/socket.io/?EIO=4&transport=websocket")
SOCKETIFY: Final = Contender(
    "socketify", lambda port: [installation.python_for("socketify"), str(PEERS / "socketify_room.py"), str(port)]
)


def websockets(*certificate: str, quick: bool = False) -> Contender:
    """``websockets`` on uvloop. `certificate`: files of a certificate and its key.

    With `quick` as it is in the tests' environment, where there is no uvloop.
    """

    def command(port: int) -> list[str]:
        python = sys.executable if quick else installation.python_for("websockets")
        return [python, str(PEERS / "websockets_room.py"), str(port), *certificate]

    return Contender("websockets" if quick else "websockets, uvloop", command, ours=quick)


def channels(redis_port: int) -> Contender:
    """Daphne and Django Channels with channels_redis."""

    def command(port: int) -> list[str]:
        daphne = Path(installation.python_for("channels")).with_name("daphne")
        return [str(daphne), "-v", "0", "-b", "127.0.0.1", "-p", str(port), "channels_app:application"]

    return Contender(
        "Daphne, channels_redis", command, environ={"REDIS_PORT": str(redis_port), "PYTHONPATH": str(PEERS)}
    )


@cache
def _nchan() -> tuple[str, Path]:
    return installation.nchan()


def _nchan_command(port: int) -> list[str]:
    program, module = _nchan()
    configuration = (PEERS / "nchan.conf").read_text().replace("MODULE", str(module)).replace("PORT", str(port))
    path = BUILD / f"nchan-{port}.conf"
    path.write_text(configuration)
    return [program, "-p", ".", "-e", "stderr", "-c", str(path)]


NCHAN: Final = Contender("nchan", _nchan_command)
