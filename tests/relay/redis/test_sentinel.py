"""The master of a service, as Sentinels know it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.relay.redis.conftest import Authority, Endpoint, Peer, StartAt, Watch
from tests.relay.redis_server import Make, RedisServer
from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Proof, Since
from twisted_chat.relay.redis.endpoints import SentinelEndpoint
from twisted_chat.relay.redis.errors import UnusableError
from twisted_chat.relay.redis.limits import LinkLimits
from twisted_chat.relay.redis.url import Credentials, Host


class Service:
    """A master, its replica, and a Sentinel; `options` are for all of them."""

    def __init__(self, make: Make, *options: str, tls: bool = False) -> None:
        self.master, self.replica, self.sentinel = make(*options), make(*options), make(*options)
        for server in (self.master, self.replica, self.sentinel):
            server.listen(tls=tls)
        self.master.start()
        self.replica.start()
        self.replica.command("REPLICAOF", "127.0.0.1", str(self.master.port))
        self.sentinel.watch("chat", self.master.port)
        self.sentinel.start()

    @property
    def url(self) -> str:
        # The first one is not there.
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/chat"

    def is_guarded(self) -> bool:
        """Whether the replica follows, and the Sentinel knows of it."""
        info = self.replica.command("INFO", "replication")
        return b"master_link_status:up" in info and self.sentinel.command("SENTINEL", "REPLICAS", "chat") != []


@pytest.fixture
def service(make_redis: Make) -> Service:
    return Service(make_redis)


def promoted(server: RedisServer) -> bool:
    try:
        return bool(server.command("ROLE")[0] == b"master")
    except OSError:
        return False  # the Sentinel kills all connections when it promotes one


@pytest.mark.parametrize("fault", ["killed", "stopped"])
@pytest_twisted.ensureDeferred
async def test_a_fail_over_is_followed(start_at: StartAt, service: Service, room: str, fault: str) -> None:
    node = await start_at(service.url, deadline=2.0)
    await node.subscribe(room)
    await node.until(service.is_guarded)
    [first] = await node.publish(room, b"1")
    await node.until(lambda: bool(service.replica.command("KEYS", "*stream")))
    if fault == "killed":
        service.master.kill()
    else:
        # Only the deadline tells that it is gone.
        service.master.signal(signal.SIGSTOP)
    await node.until(lambda: promoted(service.replica))
    await node.works()
    assert [what for what, _ in node.events.links][-1] == "resumed"
    [second] = await node.publish(room, b"2")
    assert second.previous == first.position.tag
    assert (await node.relay.history(room, Since(first.position, 10))).publications == (second,)
    await node.until(lambda: b"2" in [one.data for one in node.events.publications(room)])


@pytest_twisted.ensureDeferred
async def test_a_fail_over_is_followed_by_tls(
    start_at: StartAt, make_redis: Make, tls_options: list[str], authority: Authority, room: str
) -> None:
    service = Service(make_redis, *tls_options, tls=True)
    node = await start_at(f"{service.url.replace('redis+', 'rediss+')}?ca={authority.path}", deadline=2.0)
    await node.works()
    [first] = await node.publish(room, b"1")
    await node.until(service.is_guarded)
    await node.until(lambda: bool(service.replica.command("KEYS", "*stream")))
    service.master.signal(signal.SIGSTOP)
    await node.until(lambda: promoted(service.replica))
    await node.works()
    assert await node.ask(room, Since(first.position, 10)) == (Proof.COMPLETE, [])


@pytest_twisted.ensureDeferred
async def test_what_a_sentinel_names_must_be_the_master(start_at: StartAt, service: Service, room: str) -> None:
    await (await start_at(f"redis://127.0.0.1:{service.master.port}")).publish(room, b"{}")
    # It has not noticed yet that another one is master.
    service.sentinel.signal(signal.SIGSTOP)
    service.replica.command("REPLICAOF", "NO", "ONE")
    service.master.command("REPLICAOF", "127.0.0.1", str(service.replica.port))
    service.sentinel.signal(signal.SIGCONT)
    node = await start_at(service.url, first_retry=0.01, last_retry=0.02)
    said: list[str] = []

    async def was_said() -> bool:
        try:
            await node.relay.ready()
        except ChatError as error:
            said.append(error.message)
        return any("not the master, but a slave" in message for message in said)

    await node.until(was_said)


# Sentinels in memory


class Sentinels:
    """An endpoint over Sentinels in memory, by their names; the master is ``master``."""

    def __init__(self, clock: Clock, make: type[Endpoint], credentials: Credentials | None) -> None:
        self.hosts: dict[str, Endpoint] = {}
        self.reached: list[str] = []
        self._make = make
        self.endpoint = SentinelEndpoint(
            clock, "chat", [Host("a", 1), Host("b", 2)], credentials, self._reach, LinkLimits(deadline=2.0)
        )

    def _reach(self, host: Host) -> Endpoint:
        self.reached.append(str(host))
        return self.hosts.setdefault(host.name, self._make())


@pytest.fixture
def sentinels(clock: Clock, endpoint: Endpoint) -> Sentinels:
    return Sentinels(clock, type(endpoint), Credentials(None, b"secret"))


def answer(peer: Peer, reply: bytes = b"*2\r\n$10\r\n192.0.2.33\r\n$4\r\n7000\r\n") -> None:
    assert peer.commands() == [[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"chat"]]
    peer.say(reply)


def connecting(sentinels: Sentinels) -> Deferred[Any]:
    return sentinels.endpoint.connect(object())  # type: ignore[arg-type]  # only the master's endpoint would use it


def test_the_master_is_asked_for_and_connected_to(sentinels: Sentinels, watch: Watch) -> None:
    watch(connecting(sentinels))
    peer = sentinels.hosts["a"].accept()
    answer(peer)
    assert peer.transport.gone
    assert sentinels.reached == ["a:1", "192.0.2.33:7000"]


def test_the_next_one_is_asked_and_from_then_on_first(sentinels: Sentinels, clock: Clock, watch: Watch) -> None:
    watch(connecting(sentinels))
    sentinels.hosts["a"].refuse(ConnectionRefusedError("down"))
    answer(sentinels.hosts["b"].accept())
    watch(connecting(sentinels))
    answer(sentinels.hosts["b"].accept())
    assert sentinels.reached == ["a:1", "b:2", "192.0.2.33:7000", "b:2", "192.0.2.33:7000"]


def test_one_that_says_nothing_is_passed_over(sentinels: Sentinels, clock: Clock, watch: Watch) -> None:
    watch(connecting(sentinels))
    sentinels.hosts["a"].accept()
    clock.pump([0.1] * 21)
    answer(sentinels.hosts["b"].accept())
    assert sentinels.reached[-1] == "192.0.2.33:7000"
    assert sentinels.hosts["a"].peers[0].transport.gone


def test_when_none_knows_each_says_why(sentinels: Sentinels, clock: Clock, watch: Watch) -> None:
    outcome = watch(connecting(sentinels))
    answer(sentinels.hosts["a"].accept(), b"*-1\r\n")
    clock.pump([0.1] * 21)
    assert [type(error) for error in outcome.errors] == [UnusableError]
    assert str(outcome.errors[0]) == (
        "no Sentinel knows the master of 'chat' (a:1: it knows no such service; b:2: it did not answer in time)"
    )


def test_a_sentinel_with_a_password_is_given_ours(sentinels: Sentinels, watch: Watch) -> None:
    watch(connecting(sentinels))
    peer = sentinels.hosts["a"].accept()
    answer(peer, b"-NOAUTH Authentication required.\r\n")
    assert peer.commands() == [[b"AUTH", b"secret"]]
    peer.say(b"+OK\r\n")
    answer(peer)
    assert sentinels.reached[-1] == "192.0.2.33:7000"


def test_giving_up_asks_no_other(sentinels: Sentinels, clock: Clock, watch: Watch) -> None:
    attempt = connecting(sentinels)
    outcome = watch(attempt)
    peer = sentinels.hosts["a"].accept()
    attempt.cancel()
    assert not outcome.pending
    assert peer.transport.gone
    assert sentinels.reached == ["a:1"]
    assert clock.getDelayedCalls() == []
