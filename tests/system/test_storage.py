"""One address that stores all it can, on a real server with little space, beside another one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.ports import free_port
from tests.twistd import PATIENCE, Server

QUICK = (
    *("--limit-messages-per-address", "1000000", "--limit-messages-per-connection", "1000000"),
    *("--limit-new-rooms-per-address", "1000000", "--limit-stored-bytes-per-address", "1g"),
)
TEXT = "x" * 3_500


class Client:
    """What one address says, through a proxy that tells it."""

    def __init__(self, server: Server, address: str) -> None:
        headers = {"X-Forwarded-For": address}
        self.http = httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=PATIENCE)

    def say(self, room: str, message: str, key: str) -> httpx.Response:
        return self.http.post(f"/chat/{room}", json={"handle": "x", "message": message, "key": key})

    def fill(self, rooms: int) -> Counter[int]:
        """A message in each of many rooms; how often each status answered."""
        return Counter(self.say(f"spam{number}", TEXT, f"{number}").status_code for number in range(rooms))


@pytest.fixture(params=["refuse", "evict"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clients() -> Iterator[list[httpx.Client]]:
    made: list[httpx.Client] = []
    yield made
    for client in made:
        client.close()


def test_one_address_cannot_fill_the_database_for_all(
    twistd: Callable[..., Server], policy: str, clients: list[httpx.Client]
) -> None:
    admin = free_port()
    server = twistd(
        *("--database-bytes", "1m", "--when-full", policy, "--trusted-proxies", "1", *QUICK),
        *("--admin-port", f"tcp:{admin}:interface=127.0.0.1"),
    )
    attacker, honest = Client(server, "192.0.2.66"), Client(server, "192.0.2.7")
    clients += [attacker.http, honest.http]
    kept = [honest.say("honest", f"before {number}", f"before {number}").json() for number in range(5)]
    statuses = attacker.fill(350)
    if policy == "refuse":
        assert statuses[507] > 150
        assert set(statuses) == {201, 507}
    else:
        assert statuses == {201: 350}
    after = [honest.say("honest", f"after {number}", f"after {number}") for number in range(5)]
    assert [answer.status_code for answer in after] == [201] * 5
    assert server.history("honest") == kept + [answer.json() for answer in after]
    assert honest.say("honest", "before 0", "before 0").json()["id"] == kept[0]["id"]
    assert httpx.get(f"http://127.0.0.1:{admin}/readyz", trust_env=False).status_code == 200
    metrics = httpx.get(f"http://127.0.0.1:{admin}/metrics", trust_env=False).text
    numbers = {name: float(value) for name, value in re.findall(r"^(twisted_chat_\w+) (\S+)$", metrics, re.M)}
    assert numbers["twisted_chat_stored_bytes"] < numbers["twisted_chat_stored_bytes_limit"] == 1 << 20
    assert (numbers["twisted_chat_evicted_rooms"] > 0) == (policy == "evict")
