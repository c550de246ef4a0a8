"""Several processes as one server: `twistd chat --processes`, with a real Redis between them."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from tests.service_manager import ServiceManager
from tests.system.conftest import Authority
from tests.twistd import Server, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sockets cannot be passed on to processes here")

StartServer = Callable[..., Server]
Run = Callable[..., subprocess.CompletedProcess[str]]

PATIENCE = 90.0
MOST = 200
"""Connections until each of two processes has some: the system spreads them by chance."""

Key = tuple[tuple[str, str], ...]


class Admin:
    """The port for machines."""

    def __init__(self, port: int) -> None:
        self.option = ("--admin-port", f"tcp:{port}:interface=127.0.0.1")
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE)

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a series, 0 if there is none."""
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return 0.0

    def sockets(self, process: int) -> float:
        return self.metric("twisted_chat_connections", process=str(process), transport="websocket")

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def admin(port: int) -> Iterator[Admin]:
    admin = Admin(port)
    yield admin
    admin.close()


def pids(server: Server) -> dict[int, int]:
    """Of the processes, by number: the latest."""
    found = re.findall(r"process (\d+) is ready \(pid (\d+)\)", server.log)
    return {int(number): int(pid) for number, pid in found}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except ConnectionError:
        return True
    return False


def text(client: ClientConnection) -> str:
    message: str = json.loads(client.recv(PATIENCE))["message"]
    return message


def drain(client: ClientConnection) -> NoReturn:
    """Takes what comes until the end."""
    while True:
        client.recv(PATIENCE)


def to_both(server: Server, admin: Admin, clients: ExitStack) -> list[ClientConnection]:
    """Sockets, at least one of each process."""
    opened: list[ClientConnection] = []
    while not (admin.sockets(1) and admin.sockets(2)):
        assert len(opened) < MOST, "one process takes no connections"
        opened.append(clients.enter_context(server.socket("lobby?history=5")))
    return opened


def test_they_are_one_server_and_one_that_dies_begins_again(
    tmp_path: Path, twistd: StartServer, redis: str, admin: Admin
) -> None:
    (tmp_path / "api-keys").write_text("an-api-key-of-these-processes")
    (tmp_path / "api-keys").chmod(0o600)
    server = twistd("--processes", "2", "--relay", redis, *admin.option, "--api-key-file", "api-keys")
    until(lambda: admin.get("/readyz").json()["state"] == "ready", "both processes to be ready")
    until(lambda: admin.get("/readyz").json()["nodes"] == 2, "two nodes")
    nodes = server.get("/api/nodes", **{"x-api-key": "an-api-key-of-these-processes"}).json()["nodes"]
    names = [re.sub(r"-\w{8}$", "", node["name"]) for node in nodes]
    assert names == [f"{socket.gethostname()}-1", f"{socket.gethostname()}-2"]
    assert admin.get("/healthz").text == "ok\n"
    first = pids(server)
    assert sorted(first) == [1, 2]

    with ExitStack() as clients:
        opened = to_both(server, admin, clients)
        seen = server.post("one").json()
        assert {text(client) for client in opened} == {"one"}, "both processes have it"
        until(lambda: admin.metric("twisted_chat_publications_total", source="http") == 1, "a publication")
        sockets = lambda: admin.metric("twisted_chat_connections_opened_total", transport="websocket")  # noqa: E731
        until(lambda: sockets() == len(opened), "all sockets")

        # Its clients come back to whoever is there, and miss nothing.
        of_each = admin.sockets(1), admin.sockets(2)
        os.kill(first[1], signal.SIGKILL)
        server.logged("process 1 was ended by SIGKILL; it is started again in 0.1 s")
        for number in range(3):
            assert server.post(f"meanwhile {number}").status_code == 201
        back = 0
        for client in opened:
            try:
                assert text(client) == "meanwhile 0"
            except ConnectionClosed:
                back += 1
                again = clients.enter_context(server.socket(f"lobby?since={seen['id']}"))
                assert [text(again) for _ in range(3)] == ["meanwhile 0", "meanwhile 1", "meanwhile 2"]
        assert back == of_each[0]

        until(lambda: pids(server)[1] != first[1], "another process in its place")
        assert pids(server)[2] == first[2]
        until(lambda: admin.get("/readyz").json()["state"] == "ready", "both processes to be ready")
        # What was counted stays counted.
        until(lambda: admin.metric("twisted_chat_publications_total", source="http") == 4, "4 publications")
        assert admin.metric("twisted_chat_process_ends_total") == 1
        until(lambda: to_both(server, admin, clients) is not None)

        # All leave at the same time, each is told so.
        last = clients.enter_context(server.socket())
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            text(last)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert closed.value.rcvd.reason.startswith("going_away: the server restarts; retry=")
        assert server.wait() == -signal.SIGTERM, "as in one process"
    assert not any(map(is_alive, pids(server).values()))
    assert is_refused(server.port)
    assert "Traceback" not in server.log
    assert len(re.findall("open http://", server.log)) == 1


def test_without_their_supervisor_they_end_in_order(twistd: StartServer, redis: str) -> None:
    server = twistd("--processes", "2", "--relay", redis)
    with server.socket() as client:
        server.kill()
        with pytest.raises(ConnectionClosed) as closed:
            text(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    until(lambda: server.log.count("Server Shut Down.") == 2, "processes that end")
    assert server.log.count("the process that started this one is gone; this one stops too") == 2
    until(lambda: is_refused(server.port), "the end of them")


def test_a_service_manager_sees_one_service(
    tmp_path: Path, redis: str, service_manager: ServiceManager, twistd: StartServer
) -> None:
    path = service_manager.path.parent / "http.sock"
    server = twistd(
        *("--processes", "2", "--relay", redis, "--log-format", "json"),
        endpoint=f"unix:{path}:mode=660",
        environ={"NOTIFY_SOCKET": str(service_manager.path), "WATCHDOG_USEC": "300000"},
    )
    assert f"STATUS=serving unix:{path}:mode=660 with 2 processes" in service_manager.hears("READY=1")
    service_manager.hears("WATCHDOG=1")
    service_manager.hears("WATCHDOG=1")
    with unix_connect(str(path), "ws://chat.example/chat/lobby", open_timeout=PATIENCE) as client:
        server.signal(signal.SIGHUP)
        service_manager.hears("RELOADING=1")
        service_manager.hears("READY=1")
        entries = [json.loads(line) for line in server.log.splitlines()]
        reloaded = {entry.get("process") for entry in entries if entry["message"].startswith("certificates, keys")}
        assert reloaded == {1, 2}
        # One that ends in order leaves the socket to the others.
        first = pids(server)
        os.kill(first[1], signal.SIGTERM)
        until(lambda: pids(server)[1] != first[1], "another process in its place")
        assert path.stat().st_mode & 0o777 == 0o660
        with unix_connect(str(path), "ws://chat.example/chat/lobby", open_timeout=PATIENCE) as other:
            other.ping().wait(PATIENCE)
        # Ctrl-C reaches everybody.
        for pid in (*pids(server).values(), server.process.pid):
            os.kill(pid, signal.SIGINT)
        service_manager.hears("STOPPING=1")
        with pytest.raises(ConnectionClosed) as closed:
            drain(client)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    assert server.wait() == -signal.SIGINT
    assert not path.exists()
    assert "told to stop again" not in server.log
    assert "Traceback" not in server.log


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_on_a_socket_of_systemd(
    tmp_path: Path, redis: str, authority: Authority, service_manager: ServiceManager, port: int
) -> None:
    authority.issue(tmp_path / "certificates", "127.0.0.1")
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=https"]
    command += [f"--setenv=NOTIFY_SOCKET={service_manager.path}", str(Path(sys.executable).with_name("twistd"))]
    command += ["-n", "--pidfile=", "chat", "-p", "tls:systemd:domain=INET:name=https", "--drain", "1"]
    command += ["--processes", "2", "--relay", redis]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: b"Listening on" in (tmp_path / "log").read_bytes())
        # The first connection starts it, and is served.
        answer = httpx.get(f"https://127.0.0.1:{port}/chat/", verify=False, trust_env=False, timeout=PATIENCE)
        assert answer.json()["messages"] == []
        assert "STATUS=serving tls:systemd:domain=INET:name=https with 2 processes" in service_manager.hears("READY=1")
        process.send_signal(signal.SIGTERM)
        service_manager.hears("STOPPING=1")
        assert process.wait(PATIENCE) == -signal.SIGTERM
    finally:
        process.kill()
    log_text = (tmp_path / "log").read_text()
    assert "Traceback" not in log_text
    assert log_text.count("Server Shut Down.") == 3


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why a server did not start."""
    assert ended.returncode == 1
    [line] = [line for line in (ended.stdout + ended.stderr).splitlines() if not re.match(r"\S+ info  ", line)]
    return line


@pytest.mark.parametrize(
    "relay", [["--relay", "memory:"], [], ["--relay", "redis://127.0.0.1", "--relay", "redis://127.0.0.1"]]
)
def test_a_relay_that_will_not_do(run_twistd: Run, relay: list[str]) -> None:
    line = complaint(
        run_twistd("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1", "--processes", "2", *relay)
    )
    if len(relay) < 4:
        assert line.startswith("twistd chat: --processes 2: several processes need a relay that they share")
        assert "right would be --relay redis://127.0.0.1, or --processes 1" in line
    else:
        assert "is named twice" in line


def test_a_port_that_is_taken(run_twistd: Run) -> None:
    # By one who would let us in beside it.
    with socket.socket() as taken:
        if hasattr(socket, "SO_REUSEPORT"):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        options = ("--processes", "2", "--relay", "redis+unix:///nowhere.sock")
        line = complaint(run_twistd("-n", "--pidfile=", "chat", "-p", endpoint, *options))
    assert f"twistd chat: --port {endpoint}: cannot listen there: " in line
    assert "in use" in line


def test_one_that_cannot_start_ends_all(run_twistd: Run, tmp_path: Path) -> None:
    # In the supervisor all is well.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'CHAT_PROCESS' in os.environ: raise SystemExit('no, not here')\n", encoding="utf-8"
    )
    options = ("--processes", "2", "--relay", "redis+unix:///nowhere.sock")
    endpoint = "tcp:0:interface=127.0.0.1"
    ended = run_twistd("-n", "--pidfile=", "chat", "-p", endpoint, *options, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "no, not here" in ended.stderr
    assert "ended with status 1 before it was ready: the server ends" in ended.stdout


def test_a_log_file_has_the_lines_of_all(tmp_path: Path, redis: str, run_twistd: Run) -> None:
    # As a daemon, with a file that is rotated.
    options = ("--processes", "2", "--relay", redis, "-p", "tcp:0:interface=127.0.0.1", "--drain", "1")
    assert run_twistd("--pidfile=twistd.pid", "--logfile=chat.log", "chat", *options).returncode == 0
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        until(lambda: "in a browser" in (tmp_path / "chat.log").read_text(), "a server that serves")
    finally:
        os.kill(pid, signal.SIGTERM)
    # The pidfile is the last thing that goes.
    until(lambda: not (tmp_path / "twistd.pid").exists(), "the end of the server")
    lines = (tmp_path / "chat.log").read_text().splitlines()
    for number in (1, 2):
        assert any(f"[{number}] " in line and "Server Shut Down" in line for line in lines)
    assert not any("Traceback" in line for line in lines)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give up being that")
def test_keys_are_read_before_privileges_are_dropped(tmp_path: Path, twistd: StartServer, redis: str) -> None:
    key = tmp_path / "api-keys"
    key.write_text("an-api-key-that-only-root-may-read")
    key.chmod(0o600)
    nobody = pwd.getpwnam("nobody")
    place = Path(redis.removeprefix("redis+unix://"))
    for each in (place.parent, place):
        each.chmod(0o777)  # for this Redis is root's
    options = ("--processes", "2", "--relay", redis, "--api-key-file", key)
    server = twistd(*options, before=(f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}"))
    sender = {"x-api-key": key.read_text()}
    assert server.post("one", headers=sender).status_code == 201
    first = pids(server)
    for pid in first.values():
        assert user_ids(pid) == {nobody.pw_uid}
    assert user_ids(server.process.pid) == {0, nobody.pw_uid}, "it only starts processes as root"

    # Those that are started again have them, too.
    for pid in first.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(pids(server).values()) & set(first.values()), "others")
    for pid in pids(server).values():
        assert user_ids(pid) == {nobody.pw_uid}
    assert server.post("two", headers=sender).status_code == 201
    assert server.terminate() == -signal.SIGTERM
    assert "Traceback" not in server.log


def user_ids(pid: int) -> set[int]:
    """Of a process: real, effective and saved."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)", status, re.MULTILINE)
    assert found is not None
    return set(map(int, found.groups()))


@pytest.mark.parametrize("how", ["missing", "not executable", "silent"])
def test_one_that_can_never_be_started_ends_all(run_twistd: Run, tmp_path: Path, how: str) -> None:
    interpreter = tmp_path / "python"
    if how != "missing":
        interpreter.write_text("#!/bin/sh\nexit 3\n")
        interpreter.chmod(0o755 if how == "silent" else 0o644)
    directory = tmp_path / "site"
    directory.mkdir()
    # What the supervisor thinks that it was started by.
    (directory / "sitecustomize.py").write_text(f"import sys; sys.executable = {str(interpreter)!r}")
    options = ("-n", "--pidfile=", "chat", "-p", "tcp:0:interface=127.0.0.1", "--relay", "redis://127.0.0.1:1")
    done = run_twistd(*options, "--processes", "2", PYTHONPATH=str(directory))
    assert done.returncode == 1
    assert "process 1" in done.stdout
