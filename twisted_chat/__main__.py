"""`python -m twisted_chat`: tools beside the server. They check a configuration, make a token, publish, follow a room,
load one with messages, list nodes, and look after events of consumers that workers died of."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted_chat import __version__
from twisted_chat.auth import KeyFileError, SigningKey, make_token
from twisted_chat.client import ApiClient, ClientError, RoomClient
from twisted_chat.core.errors import ChatError
from twisted_chat.core.text import clean_message


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["check"]:
        return _check(given[1:])  # its options are those of `twistd chat`
    options = _parsed(given)
    try:
        result: int = options.run(options)
    except (ChatError, ClientError, KeyFileError, OSError, ValueError) as error:
        sys.stderr.write(f"twisted_chat {options.command}: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return result


def _parsed(given: list[str]) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(given)
    # Before Python 3.12 argparse loses an optional word that stands behind options.
    if options.command == "publish" and options.message is None and len(rest) == 1 and not rest[0].startswith("-"):
        options.message = rest.pop()
    if rest:
        parser.error(f"there is no {rest[0]!r} in this command; see python -m twisted_chat {options.command} --help")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m twisted_chat", description=__doc__)
    parser.add_argument("--version", action="version", version=f"twisted_chat {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="check a configuration: takes the options of twistd chat", add_help=False)

    token = commands.add_parser("token", help="make a token for a user (JWT)")
    token.add_argument("user", help="who it is for (sub)")
    token.add_argument("--key-file", type=Path, required=True, help="the secret, or the private key in PEM")
    token.add_argument("--handle", help="the name under which they speak; else the user")
    token.add_argument("--read", action="append", metavar="PATTERN", help="rooms they may read; repeatable")
    token.add_argument("--write", action="append", metavar="PATTERN", help="rooms they may write to; repeatable")
    token.add_argument("--audience", help="the name that the server was given with --token-audience")
    token.add_argument("--expires-in", type=float, default=3600.0, metavar="SECONDS", help="default: an hour")
    token.set_defaults(run=_token)

    for name, run, text in (
        ("publish", _publish, "post a message to a room"),
        ("tail", _tail, "follow a room"),
        ("bench", _bench, "load a room and measure its deliveries"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("url", help="the room, such as http://127.0.0.1:8080/chat/lobby")
        command.add_argument("--token-file", type=Path, help="a file that holds the token")
        command.add_argument("--api-key-file", type=Path, help="a file that holds an API key")
        command.add_argument("--insecure", action="store_true", help="take any certificate, for development")
        command.set_defaults(run=run)
        if name == "publish":
            command.add_argument("--handle", help="who says it; a token's handle wins")
            command.add_argument("--key", help="the same key within five minutes is stored once")
            command.add_argument("message", nargs="?", help="the message; else each line of standard input")
        elif name == "tail":
            command.add_argument("--since", metavar="ID", help="begin after this message")
        else:
            for option, kind, value, help_ in _LOAD:
                command.add_argument(option, type=kind, default=value, metavar="N", help=f"{help_}; default: {value}")

    nodes = commands.add_parser("nodes", help="list the nodes that serve the same rooms")
    nodes.add_argument("url", help="one of them, such as http://127.0.0.1:8080")
    nodes.add_argument("--api-key-file", type=Path, required=True, help="a file that holds an API key")
    nodes.add_argument("--insecure", action="store_true", help="take any certificate, for development")
    nodes.set_defaults(run=_nodes)

    events = commands.add_parser("events", help="list events of consumers that workers died of, run or drop them")
    events.add_argument("url", help="one of the servers, such as http://127.0.0.1:8080")
    events.add_argument("--api-key-file", type=Path, required=True, help="a file that holds an API key")
    events.add_argument("--insecure", action="store_true", help="take any certificate, for development")
    events.add_argument("--replay", action="append", default=[], metavar="ID", help="run this one again; repeatable")
    events.add_argument("--drop", action="append", default=[], metavar="ID", help="forget this one; repeatable")
    events.set_defaults(run=_events)
    return parser


SHOWN: Final = 80
"""Characters of an event's content in a table."""

_LOAD: Final = (
    ("--members", int, 100, "WebSockets in the room"),
    ("--rate", float, 10.0, "messages a second, which the members say in turn"),
    ("--seconds", float, 10.0, "how long they do"),
    ("--characters", int, 100, "length of a message"),
)


def _check(options: list[str]) -> int:
    from twisted.internet import reactor

    from twisted_chat.chat import build
    from twisted_chat.options import CheckOptions
    from twisted_chat.service import MISTAKES

    parsed = CheckOptions()
    parsed.parseOptions(options)
    try:
        built = build(parsed, reactor, dict(os.environ))
    except MISTAKES as error:
        sys.stderr.write(f"twisted_chat check: {error}\n")
        return 1
    for warning in (*built.warnings(), *_warnings(reactor, parsed.config.relay)):
        sys.stderr.write(f"twisted_chat check: warning: {warning}\n")
    print("the configuration is good")
    return 0


def _warnings(reactor: Any, relays: Sequence[str]) -> list[str]:
    """What is worth knowing of the Redis servers that are named. That is no mistake in the configuration."""
    from twisted.internet.defer import Deferred, DeferredList

    from twisted_chat.relay.url import are_shared

    if not are_shared(relays):
        return []
    from twisted_chat.relay.redis.look import look
    from twisted_chat.relay.redis.url import parse_url

    found: list[str | None] = []

    def ask() -> None:
        asked = [Deferred.fromCoroutine(look(reactor, parse_url(url))).addCallback(found.append) for url in relays]
        DeferredList(asked, consumeErrors=True).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(ask)
    reactor.run()
    return [warning for warning in found if warning is not None]


def _token(options: argparse.Namespace) -> int:
    print(
        make_token(
            SigningKey.from_file(options.key_file),
            options.user,
            handle=options.handle,
            read=options.read,
            write=options.write,
            expires_in=options.expires_in,
            audience=options.audience,
            now=time.time(),
        )
    )
    return 0


def _publish(options: argparse.Namespace) -> int:
    room = _room(options)
    if options.message is not None:
        print(room.publish(options.handle, clean_message(options.message, sys.maxsize), options.key)["id"])
        return 0
    published = 0
    for message in filter(str.strip, map(str.rstrip, sys.stdin)):
        print(room.publish(options.handle, message, options.key)["id"])
        published += 1
    if not published:
        raise ClientError("nothing to publish: give a message, or lines of text on standard input")
    return 0


def _tail(options: argparse.Namespace) -> int:
    for message in _room(options).follow(options.since, on_reset=_say_reset):
        print(f"{message['timestamp']} {message['handle']}: {message['message']}", flush=True)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from twisted_chat.bench import Load, run  # which makes a reactor

    report, whole = run(
        Load(
            options.url,
            members=options.members,
            rate=options.rate,
            seconds=options.seconds,
            characters=options.characters,
            token=_secret(options.token_file),
            api_key=_secret(options.api_key_file),
            verify=not options.insecure,
        )
    )
    print("\n".join(report))
    return 0 if whole else 1


def _nodes(options: argparse.Namespace) -> int:
    server = ApiClient(options.url, api_key=_secret(options.api_key_file), verify=not options.insecure)
    now = time.time()
    rows: list[tuple[str, ...]] = [("NAME", "VERSION", "UP FOR", "ROOMS", "MEMBERS")]
    for node in server.nodes():
        version, rooms, members = (str(node.get(what, "?")) for what in ("version", "rooms", "members"))
        rows.append((node["name"], version, _duration(now - float(node.get("started", now))), rooms, members))
    _print_table(rows)
    return 0


def _events(options: argparse.Namespace) -> int:
    server = ApiClient(options.url, api_key=_secret(options.api_key_file), verify=not options.insecure)
    for order, events in ((server.replay, options.replay), (server.drop, options.drop)):
        for event in events:
            order(event)
    if options.replay or options.drop:
        return 0
    now = time.time()
    rows: list[tuple[str, ...]] = [("ID", "SINCE", "CHANNEL", "CONNECTION", "BYTES", "CONTENT")]
    for event in server.set_aside():
        since = _duration(now - float(event.get("at", now)))
        channel, connection, size = (str(event.get(what) or "?") for what in ("channel", "connection", "bytes"))
        rows.append((event["id"], since, channel, connection, size, str(event.get("content") or "?")[:SHOWN]))
    _print_table(rows)
    return 0


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _duration(seconds: float) -> str:
    """In the two largest units: ``3d 4h``."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts or size == 1:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _say_reset() -> None:
    sys.stderr.write("twisted_chat tail: the history does not reach back so far; messages may be missing here\n")


def _room(options: argparse.Namespace) -> RoomClient:
    return RoomClient(
        options.url,
        token=_secret(options.token_file),
        api_key=_secret(options.api_key_file),
        verify=not options.insecure,
    )


def _secret(path: Path | None) -> str | None:
    """The first line of a file that is no comment: secrets are not given as arguments, where everybody sees them."""
    if path is None:
        return None
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    secret = next((line for line in lines if line and not line.startswith("#")), None)
    if secret is None:
        raise ClientError(f"{path} is empty")
    return secret


if __name__ == "__main__":
    sys.exit(main())
