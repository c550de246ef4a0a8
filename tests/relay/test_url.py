"""Which relay a URL names, and what is said about one that names none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted

from tests.relay.conftest import Events
from twisted_chat.relay.interface import HistoryLimits, Relay, RelayError
from twisted_chat.relay.memory import MemoryRelay
from twisted_chat.relay.sqlite import SqliteRelay
from twisted_chat.relay.sqlite.thread import IRelayReactor
from twisted_chat.relay.url import open_relay, open_relays


def named(url: str, reactor: IRelayReactor, **environ: str) -> Relay:
    return open_relay(url, reactor=reactor, history=HistoryLimits(), environ=environ)


def files(directory: Path) -> list[str]:
    return [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]


def test_memory(reactor: IRelayReactor) -> None:
    relay = named("memory:", reactor)
    assert isinstance(relay, MemoryRelay)
    assert not relay.durable


@pytest.mark.parametrize(
    ("url", "environ", "made"),
    [
        ("sqlite:other.db", {}, "other.db"),
        ("sqlite:{directory}/state/other.db", {}, "state/other.db"),
        ("sqlite:state/a:b.db", {"STATE_DIRECTORY": "/nowhere"}, "state/a:b.db"),
        ("sqlite:", {}, "chat.db"),
        ("sqlite:", {"STATE_DIRECTORY": ""}, "chat.db"),
        ("sqlite:", {"STATE_DIRECTORY": "{directory}/state"}, "state/chat.db"),
        ("sqlite:", {"STATE_DIRECTORY": "{directory}/state" + os.pathsep + "/nowhere"}, "state/chat.db"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_sqlite(
    reactor: IRelayReactor,
    events: Events,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environ: dict[str, str],
    made: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state").mkdir()
    environ = {name: value.format(directory=tmp_path) for name, value in environ.items()}
    relay = named(url.format(directory=tmp_path), reactor, **environ)
    assert isinstance(relay, SqliteRelay)
    assert relay.durable
    await relay.start(events)
    await relay.stop()
    assert files(tmp_path) == [made]


@pytest_twisted.ensureDeferred
async def test_limits_are_passed_on(reactor: IRelayReactor, events: Events, tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'chat.db'}"
    relay = open_relay(url, reactor=reactor, history=HistoryLimits(), environ={}, max_bytes=200_000)
    await relay.start(events)
    with pytest.raises(Exception, match="storage is full"):
        await relay.publish("r", bytes(300_000))
    await relay.stop()


@pytest.mark.parametrize(
    "url", ["", "memory", "memory:x", "memory://", "sqlite", "mysql://h/d", "/var/lib/chat.db", ":"]
)
def test_what_is_none(reactor: IRelayReactor, url: str) -> None:
    with pytest.raises(RelayError) as error:
        named(url, reactor)
    assert str(error.value) == f"there is no relay {url!r}; use memory:, sqlite:, sqlite:PATH or redis://HOST:PORT"


@pytest.mark.parametrize("url", ["sqlite://chat.db", "sqlite:///var/lib/chat.db", "sqlite:////var/lib/chat.db"])
def test_slashes_that_are_read_in_two_ways(reactor: IRelayReactor, url: str) -> None:
    with pytest.raises(RelayError) as error:
        named(url, reactor)
    assert str(error.value) == (
        f"the relay {url!r}: after sqlite: comes a path without //, as in sqlite:/var/lib/chat.db"
    )


def test_sqlite_in_memory_is_memory(reactor: IRelayReactor) -> None:
    with pytest.raises(RelayError, match="what is not to be kept in a file is memory:"):
        named("sqlite::memory:", reactor)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/0",
        "rediss://:s3cret@redis.example:6380/1",
        "redis+unix:///run/redis.sock",
        "redis+sentinel://user:s3cret@a,b/service",
    ],
)
def test_redis_is_for_many_nodes(url: str) -> None:
    from twisted.internet import reactor

    assert type(open_relays([url], reactor=reactor, history=HistoryLimits(), environ={})).__name__ == "RedisRelay"


def test_rooms_are_spread_over_several() -> None:
    from twisted.internet import reactor

    urls = ["redis://one", "redis://:s3cret@two"]
    relay = open_relays(urls, reactor=reactor, history=HistoryLimits(), environ={})
    assert type(relay).__name__ == "ShardedRelay"


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        (["redis://one", "memory:"], "the relay 'memory:': rooms can be spread over several Redis servers only"),
        (["redis://u:s3cret@one", "redis://u:other@one"], "the relay 'redis://one' is named twice"),
        (["redos://u:s3cret@one"], "there is no relay 'redos://one'"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(urls: list[str], complaint: str) -> None:
    from twisted.internet import reactor

    with pytest.raises(RelayError) as error:
        open_relays(urls, reactor=reactor, history=HistoryLimits(), environ={})
    assert complaint in str(error.value)
    assert "s3cret" not in str(error.value)
