"""Ways to a server: passwords, users, databases, sockets, TLS, Sentinel."""

# pytest_twisted ships no types.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.logger import capturedLogs, formatEvent

from twisted_chat.core.errors import ChatError
from twisted_chat.core.publication import Newest, Proof

if TYPE_CHECKING:
    from tests.relay.conftest import Node
    from tests.relay.redis.conftest import StartAt
    from tests.relay.redis_server import Make, RedisServer

SECRET = "p@ss/w:rd #1?é%"
QUOTED = "p%40ss%2Fw%3Ard%20%231%3F%C3%A9%25"


async def works(node: Node) -> None:
    async def is_ready() -> bool:
        try:
            await node.relay.ready()
        except ChatError:
            return False
        return True

    await node.until(is_ready)


async def trouble(node: Node, says: str) -> None:
    """It is not ready, for that reason."""

    async def is_said() -> bool:
        try:
            await node.relay.ready()
        except ChatError as error:
            return says in error.message
        return False

    await node.until(is_said)


@pytest.fixture
def guarded(make_redis: Make) -> RedisServer:
    server = make_redis("--requirepass", SECRET)
    server.password = SECRET
    server.listen()
    server.start()
    return server


# Passwords and users


@pytest.mark.parametrize("user", ["", "default"])
@pytest_twisted.ensureDeferred
async def test_a_password(start_at: StartAt, guarded: RedisServer, room: str, user: str) -> None:
    for url in (guarded.url, guarded.tcp_url):
        node = await start_at(url.replace("://", f"://{user}:{QUOTED}@"))
        await works(node)
        await node.publish(room, b"{}")


@pytest_twisted.ensureDeferred
async def test_without_a_password_it_says_so(start_at: StartAt, guarded: RedisServer) -> None:
    await trouble(await start_at(guarded.url), "NOAUTH")


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_tried_until_it_is_right_and_never_shown(
    start_at: StartAt, guarded: RedisServer
) -> None:
    with capturedLogs() as events:
        node = await start_at(guarded.url.replace("://", "://:wr0ng@"), first_retry=0.01, last_retry=0.05)
        await trouble(node, "refuses the user name or password: WRONGPASS")
        await node.turn(0.5)
        guarded.command("CONFIG", "SET", "requirepass", "wr0ng")
        await works(node)
    log = [formatEvent(event) for event in events]
    assert not any("wr0ng" in line for line in log)
    # Each link said it once, not each time that it tried.
    assert len([line for line in log if "WRONGPASS" in line]) == 2


@pytest_twisted.ensureDeferred
async def test_a_user_that_may_do_what_is_needed_and_no_more(
    start_at: StartAt, guarded: RedisServer, room: str
) -> None:
    allowed = ["~twisted_chat:*", "&twisted_chat:*", "+@all", "-@dangerous", "-@admin"]
    guarded.command("ACL", "SETUSER", "chat", "on", ">secret", "resetkeys", "resetchannels", *allowed)
    node = await start_at(guarded.url.replace("://", "://chat:secret@"))
    await works(node)
    await node.subscribe(room)
    node.relay.enter(room, "a", "ann")
    await node.publish(room, b"{}")
    await node.until(lambda: (room, "joined", "ann") in node.events.presence)
    assert await node.ask(room, Newest(1)) == (Proof.COMPLETE, [b"{}"])
    await node.relay.stop()


@pytest_twisted.ensureDeferred
async def test_a_user_that_may_not_subscribe_is_told(start_at: StartAt, guarded: RedisServer) -> None:
    guarded.command("ACL", "SETUSER", "chat", "on", ">secret", "~twisted_chat:*", "resetchannels", "+@all")
    await trouble(await start_at(guarded.url.replace("://", "://chat:secret@")), "NOPERM")


# Databases


@pytest_twisted.ensureDeferred
async def test_databases_are_worlds_of_their_own(start_at: StartAt, redis_server: RedisServer, room: str) -> None:
    one, two = await start_at(redis_server.url), await start_at(redis_server.url + "?db=1")
    for node in (one, two):
        await node.subscribe(room)
    one.relay.enter(room, "a", "ann")
    await one.publish(room, b"one")
    await two.publish(room, b"two")
    assert await two.ask(room, Newest(10)) == (Proof.COMPLETE, [b"two"])
    assert await one.ask(room, Newest(10)) == (Proof.COMPLETE, [b"one"])
    # Channels are the server's: what is heard must be told apart.
    assert await two.delivered(room, 1) == [b"two"]
    assert await one.delivered(room, 1) == [b"one"]
    await one.until(lambda: (room, "joined", "ann") in one.events.presence)
    assert two.events.presence == []


@pytest_twisted.ensureDeferred
async def test_a_database_that_is_not_there(start_at: StartAt, redis_server: RedisServer) -> None:
    await trouble(await start_at(redis_server.url + "?db=99"), "out of range")


# What is no Redis


@pytest_twisted.ensureDeferred
async def test_nothing_listens(start_at: StartAt, tmp_path: Path) -> None:
    await trouble(await start_at(f"redis+unix://{tmp_path}/nothing.sock"), "No such file")


@pytest_twisted.ensureDeferred
async def test_a_cluster_is_refused(start_at: StartAt, make_redis: Make) -> None:
    server = make_redis("--cluster-enabled", "yes")
    while not 0 < server.port < 55_000:  # its nodes talk to each other on that port + 10,000
        server.listen()
    server.start()
    await trouble(await start_at(server.url), "Redis Cluster")


@pytest_twisted.ensureDeferred
async def test_a_server_that_forgets_is_warned_of(start_at: StartAt, make_redis: Make) -> None:
    server = make_redis("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    with capturedLogs() as events:
        await works(await start_at(server.url))
    assert any("noeviction" in formatEvent(event) for event in events)


# TLS


class Authority:
    """Signs certificates."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.path = self._write(name, self._sign(self.name, self.key.public_key(), x509.BasicConstraints(True, None)))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Paths of a certificate for these, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = x509.SubjectAlternativeName(
            [x509.IPAddress(ipaddress.ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
        )
        certificate = self._write("server", self._sign(x509.Name([]), key.public_key(), alternatives))
        file = self.directory / "server.key"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, file

    def _sign(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self.name, subject, key, x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1)
        )
        return builder.add_extension(extension, critical=True).sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.directory / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def tls_server(make_redis: Make, authority: Authority) -> RedisServer:
    certificate, key = authority.issue("127.0.0.1", "redis.example")
    options = {"cert-file": certificate, "key-file": key, "ca-cert-file": authority.path, "auth-clients": "no"}
    server = make_redis(*[part for name, value in options.items() for part in (f"--tls-{name}", str(value))])
    server.listen(tls=True)
    try:
        server.start()
    except AssertionError as error:
        if "Failed finding TLS support" in str(error) or "Bad directive" in str(error):
            pytest.skip("this server was built without TLS")
        raise
    return server


@pytest_twisted.ensureDeferred
async def test_tls(start_at: StartAt, tls_server: RedisServer, authority: Authority, room: str) -> None:
    node = await start_at(f"rediss://127.0.0.1:{tls_server.port}?ca={authority.path}")
    await works(node)
    await node.subscribe(room)
    await node.publish(room, b"x" * 300_000)
    assert await node.delivered(room, 1) == [b"x" * 300_000]


@pytest_twisted.ensureDeferred
async def test_tls_refuses_what_it_cannot_verify(
    start_at: StartAt, tls_server: RedisServer, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "theirs")
    await trouble(await start_at(f"rediss://127.0.0.1:{tls_server.port}"), "certificate verify failed")
    await trouble(await start_at(f"rediss://127.0.0.1:{tls_server.port}?ca={other.path}"), "certificate verify failed")
    url = f"rediss://localhost:{tls_server.port}?ca={authority.path}"
    await trouble(await start_at(url), "the certificate is not for this host name")


@pytest_twisted.ensureDeferred
async def test_tls_to_a_server_without_and_the_other_way_round(
    start_at: StartAt, tls_server: RedisServer, guarded: RedisServer
) -> None:
    # Redis takes the beginning of TLS for a command that is not complete.
    await trouble(await start_at(f"rediss://127.0.0.1:{guarded.port}", deadline=0.5), "no answer for 0.5 seconds")
    await trouble(await start_at(f"redis://127.0.0.1:{tls_server.port}"), "lost")
