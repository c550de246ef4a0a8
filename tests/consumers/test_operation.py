"""What operators see of consumers: metrics and health of servers and workers, and what systemd is told."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from tests.consumers.conftest import Serve, Worker
from tests.ports import free_port
from tests.relay.redis_server import Make
from tests.service_manager import ServiceManager
from tests.twistd import run, until

EVENTS = "twisted_chat_consumer_events_total"
WAITING = "twisted_chat_consumer_events_waiting"
DELAYED = "twisted_chat_consumer_events_delayed"
PAUSED = "twisted_chat_consumer_clients_paused"


class Admin:
    """The admin port of a process."""

    def __init__(self) -> None:
        port = free_port()
        self.option = f"tcp:{port}:interface=127.0.0.1"
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url + path, trust_env=False, timeout=30)

    def counted(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def events(self, channel: str, result: str) -> float | None:
        return self.counted(EVENTS, channel=channel, result=result)

    def is_ready(self) -> bool:
        return self.get("/readyz").status_code == 200


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path_factory.mktemp("n") / "s")
    yield manager
    manager.close()


def connected(url: str, path: str) -> ClientConnection:
    return connect(url.replace("http", "ws", 1) + path, proxy=None, compression=None, open_timeout=60)


def test_a_server_that_runs_them_counts(start_server: Serve) -> None:
    here = Admin()
    server = start_server(
        "--relay", "memory:", "--routing", "behaviour_app:channel_routing", "--admin-port", here.option
    )
    with connected(server.url, "/json") as client:
        for frame in (b"binary", "no json", "1"):
            client.send(frame)
        client.recv(30)
    until(lambda: here.events("websocket.disconnect", "done") == 1)
    assert here.events("websocket.connect", "done") == 1
    assert here.events("websocket.receive", "done") == 1
    assert here.events("websocket.receive", "bad_frame") == 2
    assert here.counted("twisted_chat_consumer_seconds_count", channel="websocket.receive") == 3
    assert (here.counted(WAITING), here.counted(DELAYED), here.counted(PAUSED)) == (0, 0, 0)
    assert "Traceback" not in server.log
    assert server.log.count("is dropped") == 1


def test_a_worker_waits_for_redis_and_then_works(
    start_server: Serve,
    start_worker: Callable[..., Worker],
    make_redis: Make,
    manager: ServiceManager,
    tmp_path: Path,
) -> None:
    redis, here, there = make_redis(), Admin(), Admin()
    worker = start_worker(
        *("--relay", redis.url, "--threads", "1", "--admin-port", here.option),
        environ={"NOTIFY_SOCKET": str(manager.path)},
        says="waits for Redis",
    )
    assert "runs consumers of" not in worker.log
    name = worker.log.partition(" waits for Redis")[0].split()[-1]
    # The first that systemd hears, so it was not told that the worker is ready.
    assert manager.next() == [f"STATUS=worker {name} waits for Redis"]
    assert here.get("/healthz").text == "ok\n"
    answer = here.get("/readyz")
    assert answer.status_code == 503
    assert [each["code"] for each in answer.json()["obstacles"]] == ["relay"]
    assert here.counted("twisted_chat_ready") == 0
    assert here.counted(WAITING) is None, "that is not known"

    redis.start()
    status = manager.hears("READY=1")[1]
    assert status.startswith(f"STATUS=worker {name} runs consumers of ")
    worker.logged("runs consumers of")
    until(here.is_ready)

    server = start_server("--relay", redis.url, "--consumers", "remote", "--admin-port", there.option)
    until(there.is_ready)
    file = tmp_path / "go on"
    with connected(server.url, "/held") as client:
        # One is running, and the others wait.
        for _ in range(200):
            client.send(str(file))
        until(lambda: there.counted(PAUSED) == 1)
        until(lambda: all((place.counted(WAITING) or 0) >= 64 for place in (here, there)))
        assert here.events("websocket.receive", "done") == 0
        file.touch()
        for _ in range(200):
            client.recv(30)
        until(lambda: here.events("websocket.receive", "done") == 200)
        until(lambda: (there.counted(WAITING), there.counted(PAUSED)) == (0, 0))

    until(lambda: here.events("websocket.disconnect", "unrouted") == 1)
    with connected(server.url, "/tool") as client:
        client.recv(30)
        client.send("delay 3600000 something")
        until(lambda: here.counted(DELAYED) == there.counted(DELAYED) == 1)
    redis.signal(signal.SIGSTOP)
    until(lambda: not here.is_ready())
    assert here.get("/readyz").json()["obstacles"][0]["code"] == "relay"
    redis.signal(signal.SIGCONT)
    until(here.is_ready)
    assert "Traceback" not in worker.log

    redis.kill()
    assert manager.hears(f"STATUS=worker {name} waits for Redis") == [f"STATUS=worker {name} waits for Redis"]
    until(lambda: not here.is_ready())
    assert here.get("/healthz").status_code == 200
    worker.terminate()
    manager.hears("STOPPING=1")


def test_what_another_worker_took_is_counted_as_that(
    start_server: Serve,
    start_worker: Callable[..., Worker],
    make_redis: Make,
    tmp_path: Path,
) -> None:
    redis, here = make_redis(), Admin()
    redis.start()
    start_worker("--relay", redis.url, "--admin-port", here.option)
    server = start_server("--relay", redis.url, "--consumers", "remote")
    file = tmp_path / "go on"
    with connected(server.url, "/held") as client:
        until(lambda: here.events("websocket.connect", "done") == 1)  # so that its token is not what we find
        client.send(str(file))
        ready = "twisted_chat:consumers:ready"
        pending = until(lambda: redis.command("XPENDING", ready, "workers", "-", "+", "10"))
        # As another one does after ten seconds of silence.
        redis.command("XCLAIM", ready, "workers", "other", "0", pending[0][0])
        file.touch()
        until(lambda: here.events("websocket.receive", "handed_over") == 1)
        assert here.events("websocket.receive", "done") == 0


def test_a_prefix_is_for_the_queue_too(
    start_server: Serve, start_worker: Callable[..., Worker], make_redis: Make
) -> None:
    redis = make_redis()
    redis.start()
    url = redis.url + "?prefix=shop"
    start_worker("--relay", url)
    server = start_server("--relay", url, "--consumers", "remote")
    with connected(server.url, "/json") as client:
        client.send("1")
        client.recv(30)
        keys = redis.command("KEYS", "*")
    assert b"shop:consumers:ready" in keys
    assert [key for key in keys if not key.startswith(b"shop:")] == []


def test_an_admin_port_that_is_taken_is_one_line(start_server: Serve, make_redis: Make, tmp_path: Path) -> None:
    here = Admin()
    start_server("--relay", "memory:", "--admin-port", here.option)
    result = run(
        tmp_path,
        *("-n", "--pidfile=", "chat-worker", "--relay", "redis://127.0.0.1:1"),
        *("--routing", "behaviour_app:channel_routing", "--admin-port", here.option),
        PYTHONPATH=str(Path(__file__).parent),
    )
    assert result.returncode == 1
    said = f"twistd chat-worker: --admin-port {here.option}: cannot listen there: Address already in use"
    assert said in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout
