"""The settings of the server: what each is called, how its text is read, and what is said about it.

Every setting has one name. ``--relay`` on the command line, ``TWISTED_CHAT_RELAY`` in the environment and ``relay`` in
the TOML file are the same setting.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted_chat.core.limits import Rate

ENVIRONMENT_PREFIX: Final = "TWISTED_CHAT_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: how its text is read, and what is said about it."""

    name: str
    parse: Callable[[str], Any]
    placeholder: str
    """What stands for its value in help; empty for a switch."""
    help: str
    many: bool = False

    @property
    def attribute(self) -> str:
        """Its name in `config.Config`, unless it is a limit."""
        return self.name.replace("-", "_")

    @property
    def limit(self) -> str | None:
        """Its name in `core.limits.Limits`; None if it is no limit."""
        return self.attribute.removeprefix("limit_") if self.name.startswith("limit-") else None

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.attribute.upper()

    @property
    def is_switch(self) -> bool:
        return not self.placeholder


# How text is read. Each raises ValueError saying what would be right.


def _text(text: str) -> str:
    if not text:
        raise ValueError("it may not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _switch(text: str) -> bool:
    values = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
    if text.lower() not in values:
        raise ValueError("say yes or no")
    return values[text.lower()]


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _whole(least: int, most: int = 1 << 53) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (_is_count(text) and least <= int(text) <= most):
            upper = f" to {most}" if most < 1 << 53 else " up"
            raise ValueError(f"give a whole number from {least}{upper}")
        return int(text)

    return parse


def _processes(text: str) -> int:
    if text != "auto":
        try:
            return _whole(1, 256)(text)
        except ValueError as error:
            raise ValueError(f"{error}, or auto") from None
    # As many as we may use, where the system tells.
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(cores), 256)


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _seconds(least: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
        try:
            value = float(number) * unit
        except ValueError:
            value = float("nan")
        if not least <= value < float("inf"):
            raise ValueError(f"give seconds from {least:g} up, or for example 90s, 15m, 12h, 7d")
        return value

    return parse


def _bytes(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number, unit = (text[:-1], _SIZES[text[-1].lower()]) if text[-1:].lower() in _SIZES else (text, 1)
        if not (_is_count(number) and int(number) * unit >= least):
            raise ValueError(f"give bytes from {least} up, or for example 64k, 16m, 2g")
        return int(number) * unit

    return parse


def _rate(text: str) -> Rate:
    per_second, colon, burst = text.partition(":")
    try:
        rate = float(per_second)
        at_once = _whole(1, 10**9)(burst) if colon else max(1, round(2 * rate))
        return Rate(rate, at_once)
    except (ValueError, OverflowError):  # what is too large to be rounded
        raise ValueError("give how many a second, and after a colon how many at once, for example 10:30") from None


def _byte_rate(text: str) -> Rate:
    per_second, colon, burst = text.partition(":")
    try:
        rate = _bytes(1)(per_second)
        return Rate(float(rate), _bytes(1)(burst) if colon else 2 * rate)
    except (ValueError, OverflowError):
        raise ValueError("give bytes per second, and after a colon how many at once, for example 64k:1m") from None


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"choose from {', '.join(values)}")
        return text

    return parse


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "port",
        _text,
        "ENDPOINT",
        "Where to listen: a strports description such as tcp:8080, tls:443, unix:/run/chat.sock, "
        "systemd:domain=INET6:name=https, haproxy:tcp:8080. Repeatable.",
        many=True,
    ),
    Setting(
        "certificates",
        _path,
        "DIRECTORY",
        "Certificates and keys (PEM) for tls: endpoints, flat or as certbot keeps them. Default: "
        "$CREDENTIALS_DIRECTORY, else ./certificates, else /etc/letsencrypt/live, the first that exists.",
    ),
    Setting(
        "self-signed",
        _switch,
        "",
        "Make a certificate for localhost and this machine's name, for development.",
    ),
    Setting(
        "compression",
        _switch,
        "",
        "Compress messages for WebSocket clients that offer it: fewer bytes for more processor time.",
    ),
    Setting(
        "relay",
        _text,
        "URL",
        "Where publications are kept: sqlite:PATH (a bare sqlite: is chat.db in $STATE_DIRECTORY or the working "
        "directory), memory:, or redis://HOST:PORT for many nodes (also rediss:, redis+unix:, redis+sentinel:). "
        "Repeatable for Redis: rooms are spread over them. $REDIS_URL is used where nothing else is said.",
        many=True,
    ),
    Setting("history-count", _whole(0, 1_000_000), "N", "Messages kept per room."),
    Setting("history-age", _seconds(0), "SECONDS", "How long a message is kept; 0: as long as the count lets it."),
    Setting("database-bytes", _bytes(1 << 20), "BYTES", "How large the SQLite file may grow."),
    Setting(
        "when-full",
        _one_of("refuse", "evict"),
        "POLICY",
        "What happens when the SQLite file is nearly full: refuse whoever has more than its share, or evict the oldest "
        "rooms of whoever has most.",
    ),
    Setting(
        "token-key-file",
        _path,
        "FILE",
        "Close the rooms to all but bearers of a JWT that this key verifies: a secret (HS256), a public key in PEM "
        "(RS256, ES256, EdDSA) or a JWKS. Default: $CREDENTIALS_DIRECTORY/token-key if it exists.",
    ),
    Setting("token-audience", _text, "NAME", "Take only tokens whose aud is this; without it, only those without aud."),
    Setting(
        "api-key-file",
        _path,
        "FILE",
        "Let bearers of these keys, one per line, act for the server. Default: $CREDENTIALS_DIRECTORY/api-keys if it "
        "exists.",
    ),
    Setting(
        "allow-origin",
        _text,
        "ORIGIN",
        "Let pages of this site connect, such as https://example.com or https://*.example.com, besides pages of the "
        "same host. Repeatable.",
        many=True,
    ),
    Setting(
        "allow-host",
        _text,
        "HOST",
        "Answer to this host, such as chat.example.com or *.example.com, besides localhost and addresses; * is every "
        "host. Repeatable. Default: only localhost and addresses where all ports are on 127.0.0.1 or ::1, without TLS "
        "and without a proxy, else every host.",
        many=True,
    ),
    Setting(
        "trusted-proxies",
        _whole(0, 16),
        "N",
        "How many proxies stand in front and append to X-Forwarded-For; without it that header is not believed.",
    ),
    Setting(
        "routing",
        _text,
        "MODULE:NAME",
        "Let Python decide what WebSockets do: the routing of its consumers, such as myapp.routing:channel_routing.",
    ),
    Setting(
        "consumers",
        _one_of("local", "remote"),
        "WHERE",
        "Who runs them: this server (local), or workers that take their events from Redis (remote), which are started "
        "with twistd chat-worker.",
    ),
    Setting("threads", _whole(1, 1_000), "N", "How many consumers may run at a time; coroutines need no thread."),
    Setting("admin-port", _text, "ENDPOINT", "Serve /metrics, /healthz and /readyz here; nowhere by default."),
    Setting(
        "processes",
        _processes,
        "N",
        "Serve by so many processes, which need a relay of Redis; auto: one for each processor core.",
    ),
    Setting("drain", _seconds(0), "SECONDS", "How long clients may take to leave when the server stops."),
    Setting("log-format", _one_of("text", "json"), "FORMAT", "text, or json: one object per line."),
    Setting(
        "log-level",
        _one_of("debug", "info", "warn", "error"),
        "LEVEL",
        "The least level that is logged: debug, info, warn or error.",
    ),
    # Limits.
    Setting("limit-connections", _whole(1), "N", "WebSockets and event streams in all."),
    Setting("limit-connections-per-address", _whole(1), "N", "The same from one address (an IPv6 /64)."),
    Setting("limit-handshake-timeout", _seconds(0.1), "SECONDS", "For TLS and the head of a request to arrive."),
    Setting("limit-idle-timeout", _seconds(1), "SECONDS", "For a connection on which nothing is asked."),
    Setting("limit-header-bytes", _bytes(1024), "BYTES", "Header fields of one request together."),
    Setting("limit-body-bytes", _bytes(1024), "BYTES", "The body of one request."),
    Setting(
        "limit-unfinished-bytes",
        _bytes(1 << 20),
        "BYTES",
        "What requests may hold whose bodies have not come whole: an eighth of it those of an address, a thirty-second "
        "those on a connection.",
    ),
    Setting("limit-message-characters", _whole(1, 1_000_000), "N", "Characters of one message."),
    Setting("limit-handle-characters", _whole(1, 1_000), "N", "Characters of a handle."),
    Setting("limit-key-characters", _whole(1, 1_000), "N", "Characters of an idempotency key."),
    Setting("limit-messages-per-connection", _rate, "RATE[:BURST]", "Messages a second of one connection."),
    Setting("limit-messages-per-address", _rate, "RATE[:BURST]", "Messages a second of one address."),
    Setting(
        "limit-frames-per-connection",
        _rate,
        "RATE[:BURST]",
        "WebSocket frames of any kind, pings too, that are read in a second from one connection. Default: 200:1000, or "
        "twice its messages where that is more.",
    ),
    Setting(
        "limit-frames-per-address",
        _rate,
        "RATE[:BURST]",
        "The same from one address. Default: 2000:4000, or twice its messages where that is more.",
    ),
    Setting(
        "limit-incoming-bytes-per-connection",
        _byte_rate,
        "RATE[:BURST]",
        "Bytes of WebSocket frames that are read in a second from one connection, such as 64k:1m. Default: 1m:4m, or "
        "what its messages need where that is more.",
    ),
    Setting(
        "limit-incoming-bytes-per-address",
        _byte_rate,
        "RATE[:BURST]",
        "The same from one address. Default: 8m:32m, or what its messages need where that is more.",
    ),
    Setting("limit-new-rooms-per-address", _rate, "RATE[:BURST]", "Rooms a second that begin for one address."),
    Setting("limit-new-rooms-per-user", _rate, "RATE[:BURST]", "The same of one user of a token."),
    Setting("limit-stored-bytes-per-address", _byte_rate, "RATE[:BURST]", "Bytes a second that one address stores."),
    Setting("limit-stored-bytes-per-user", _byte_rate, "RATE[:BURST]", "The same of one user of a token."),
    Setting(
        "limit-requests-per-address",
        _rate,
        "RATE[:BURST]",
        "Requests a second of one address, of any kind, but not those with an API key.",
    ),
    Setting("limit-outbox-bytes", _bytes(4096), "BYTES", "What may wait for one client that reads slowly."),
    Setting("limit-waiting-bytes", _bytes(1 << 20), "BYTES", "What may wait for all clients of a process together."),
    Setting(
        "limit-consumer-bytes-per-client", _bytes(4096), "BYTES", "What one client may have waiting for consumers."
    ),
    Setting("limit-consumer-bytes", _bytes(1 << 20), "BYTES", "What may wait for consumers in all."),
    Setting("limit-streams-per-connection", _whole(1, 10_000), "N", "Streams of one HTTP/2 connection."),
    Setting("limit-ping-interval", _seconds(1), "SECONDS", "How often a silent connection is asked if it lives."),
    Setting("limit-ping-timeout", _seconds(1), "SECONDS", "How long it may take to answer."),
    Setting("limit-history-page", _whole(1, 1_000), "N", "Messages in one answer of the history."),
)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Listening": ("port", "certificates", "self-signed", "compression", "trusted-proxies", "admin-port"),
    "History": ("relay", "history-count", "history-age", "database-bytes", "when-full"),
    "Who may come in": ("token-key-file", "token-audience", "api-key-file", "allow-origin", "allow-host"),
    "Consumers": ("routing", "consumers", "threads"),
    "Running": ("processes", "drain", "log-format", "log-level"),
    "Limits": tuple(setting.name for setting in SETTINGS if setting.limit is not None),
}
"""The names of all settings by what they are about, as help lists them."""

BY_NAME: Final = {setting.name: setting for setting in SETTINGS}


def did_you_mean(name: str) -> str:
    """The setting that was probably meant, as the end of a sentence."""
    close = difflib.get_close_matches(name, BY_NAME, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
