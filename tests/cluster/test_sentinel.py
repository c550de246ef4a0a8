"""A master dies or gets stuck, Sentinels promote its replica, and the nodes follow."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.cluster.checker import Crowd
from tests.cluster.conftest import Cluster
from tests.relay.redis_server import Make, RedisServer
from tests.twistd import until

Gather = Callable[..., Crowd]
StartNodes = Callable[..., Cluster]
SENTINELS = 3


class Service:
    """A master, its replica, and the Sentinels that guard them."""

    def __init__(self, make_redis: Make) -> None:
        self.master = make_redis()
        self.replica = make_redis("--replicaof", "127.0.0.1", str(self.master.port))
        self.sentinels = [make_redis() for _ in range(SENTINELS)]
        for sentinel in self.sentinels:
            sentinel.watch("chat", self.master.port)
        for server in (self.master, self.replica, *self.sentinels):
            server.start()

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{sentinel.port}' for sentinel in self.sentinels)}/chat"

    def is_guarded(self) -> bool:
        """Whether the replica follows, and all Sentinels know of it and of each other."""
        return b"master_link_status:up" in self.replica.command("INFO", "replication") and all(
            sentinel.command("SENTINEL", "REPLICAS", "chat")
            and len(sentinel.command("SENTINEL", "SENTINELS", "chat")) == SENTINELS - 1
            for sentinel in self.sentinels
        )

    def has_failed_over(self) -> bool:
        """Whether the replica is master, and every Sentinel says so."""
        return role(self.replica) == b"master" and all(
            sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "chat")[1] == b"%d" % self.replica.port
            for sentinel in self.sentinels
        )


def role(server: RedisServer) -> bytes | None:
    """None while it ends connections: a Sentinel that gives it another role makes it do that."""
    try:
        found: bytes = server.command("ROLE")[0]
    except ConnectionError:
        return None
    return found


@pytest.fixture
def service(make_redis: Make) -> Service:
    service = Service(make_redis)
    until(service.is_guarded, "a replica that is guarded")
    return service


@pytest.mark.parametrize("fault", ["killed", "stuck"])
def test_a_fail_over_under_load(start_nodes: StartNodes, service: Service, gather: Gather, fault: str) -> None:
    cluster = start_nodes(*[(service.url,)] * 2)
    cluster.ready()
    crowd = gather(cluster.urls)
    crowd.talk(36)
    if fault == "killed":
        service.master.kill()
    else:
        service.master.signal(signal.SIGSTOP)
    until(service.has_failed_over, "a fail-over")
    promoted = time.monotonic()
    crowd.talk(36)
    if fault == "killed":
        service.master.start()
    else:
        service.master.signal(signal.SIGCONT)
    until(lambda: role(service.master) == b"slave", "the old master to be demoted")
    crowd.talk(36)
    # Redis replicates after it has answered: the end of what the old master had may be gone, and clients are told.
    crowd.check(resets=True, rewritten=True, kept_since=promoted)
    assert all(client.came == 1 for client in crowd.clients)
    assert all(node.is_alive() for node in cluster.nodes)
    cluster.ready()
