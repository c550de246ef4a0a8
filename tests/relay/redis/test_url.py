"""What URLs name, and what is said about those that name nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.relay.interface import RelayError
from twisted_chat.relay.redis.url import Credentials, Host, RedisServer, Tls, parse_url


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis://localhost", RedisServer("redis://localhost", hosts=(Host("localhost", 6379),))),
        ("redis://localhost/", RedisServer("redis://localhost/", hosts=(Host("localhost", 6379),))),
        ("REDIS://h:7000/3", RedisServer("redis://h:7000/3", 3, hosts=(Host("h", 7000),))),
        ("redis://[::1]:7000", RedisServer("redis://[::1]:7000", hosts=(Host("::1", 7000),))),
        ("redis://[fe80::1%eth0]", RedisServer("redis://[fe80::1%eth0]", hosts=(Host("fe80::1%eth0", 6379),))),
        ("redis://:p@h", RedisServer("redis://h", credentials=Credentials(None, b"p"), hosts=(Host("h", 6379),))),
        ("redis://u:p@h", RedisServer("redis://h", credentials=Credentials(b"u", b"p"), hosts=(Host("h", 6379),))),
        ("redis://:@h", RedisServer("redis://h", hosts=(Host("h", 6379),))),
        (
            "redis://u%3A:a%2Fb%40c%23%C3%A9:d@h",
            RedisServer("redis://h", credentials=Credentials(b"u:", "a/b@c#é:d".encode()), hosts=(Host("h", 6379),)),
        ),
        ("rediss://h", RedisServer("rediss://h", hosts=(Host("h", 6379),), tls=Tls())),
        ("redis+unix:///run/r.sock", RedisServer("redis+unix:///run/r.sock", path="/run/r.sock")),
        (
            "redis+unix://u:p@/run/a%20b.sock?db=2",
            RedisServer(
                "redis+unix:///run/a%20b.sock?db=2", 2, credentials=Credentials(b"u", b"p"), path="/run/a b.sock"
            ),
        ),
        (
            "redis+sentinel://:p@a,b:1,[::1]:2/mymaster/4",
            RedisServer(
                "redis+sentinel://a,b:1,[::1]:2/mymaster/4",
                4,
                Credentials(None, b"p"),
                (Host("a", 26379), Host("b", 1), Host("::1", 2)),
                service="mymaster",
            ),
        ),
        (
            "rediss+sentinel://a/m",
            RedisServer("rediss+sentinel://a/m", hosts=(Host("a", 26379),), service="m", tls=Tls()),
        ),
        (
            "redis://u:p@h/1?prefix=shop-2.b_c",
            RedisServer(
                "redis://h/1?prefix=shop-2.b_c",
                1,
                Credentials(b"u", b"p"),
                (Host("h", 6379),),
                prefix=b"shop-2.b_c",
            ),
        ),
        (
            "redis+unix:///r.sock?prefix=shop&db=2",
            RedisServer("redis+unix:///r.sock?db=2&prefix=shop", 2, path="/r.sock", prefix=b"shop"),
        ),
        (
            "redis+sentinel://a/m?prefix=shop",
            RedisServer("redis+sentinel://a/m?prefix=shop", hosts=(Host("a", 26379),), service="m", prefix=b"shop"),
        ),
        ("redis://h?prefix=twisted_chat", RedisServer("redis://h", hosts=(Host("h", 6379),))),
    ],
)
def test_urls(url: str, server: RedisServer) -> None:
    assert parse_url(url) == server


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:secret@h", "use redis://"),
        ("valkey://h", "use redis://"),
        ("redis://", "the host is missing"),
        ("redis:///1", "the host is missing"),
        ("redis://:secret@", "the host is missing"),
        ("redis://h:x", "after : comes the port"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:65536", "from 1 to 65535"),
        ("redis://::1", "an IPv6 address in brackets"),
        ("redis://h h", "the host is a name"),
        ("redis://h,i", "the host is a name"),
        ("redis://h/one", "the database is a number, as in redis://HOST/1"),
        ("redis://h/-1", "the database is a number"),
        ("redis://h/1/2", "the database is a number"),
        ("redis://h?db=1", "there is no option 'db'; this kind of URL takes only ?prefix="),
        ("redis://h?prefix=", "1 to 64 letters"),
        ("redis://h?prefix=a:b", "1 to 64 letters"),
        ("redis://h?prefix=a{b}", "1 to 64 letters"),
        ("redis://h?prefix=a*", "1 to 64 letters"),
        ("redis://h?prefix=caf%C3%A9", "1 to 64 letters"),
        ("redis://h?prefix=a%0A", "1 to 64 letters"),
        ("redis://h?prefix=" + 65 * "a", "1 to 64 letters"),
        ("redis+unix:///r.sock?prefix=a/b", "1 to 64 letters"),
        ("redis://h?Prefix=a", "there is no option 'Prefix'"),
        ("redis://secret@h", "before the @ comes USER:PASSWORD"),
        ("redis://user:@h", "the password is missing"),
        ("redis://:secret", "after : comes the port"),
        ("redis://user:secret", "after : comes the port"),
        ("redis://:sec/secret@h", "in a password / is written %2F"),
        ("redis://:sec?secret@h", "? is %3F"),
        ("redis://:sec?db=secret@h", "? is %3F"),
        ("redis://:sec#secret@h", "# in a password is written %23"),
        ("rediss://h?ca=/nowhere/ca.pem", "?ca= names '/nowhere/ca.pem', which cannot be read: No such file"),
        ("rediss://h?tls=no", "takes only ?ca= and ?prefix="),
        ("redis+unix://run/redis.sock", "the path of the socket is absolute"),
        ("redis+unix://", "the path of the socket is absolute"),
        ("redis+unix:///r.sock?db=x", "the database is a number, as in redis+unix:///PATH?db=1"),
        ("redis+sentinel://h", "the Sentinels and the service"),
        ("redis+sentinel:///m", "the Sentinels and the service"),
        ("redis+sentinel://a,,b/m", "the host is a name"),
        ("redis+sentinel://a/m/x", "the database is a number"),
    ],
)
def test_mistakes_are_named_and_passwords_are_not(url: str, says: str) -> None:
    with pytest.raises(RelayError) as mistake:
        parse_url(url)
    message = str(mistake.value)
    assert says in message
    assert "secret" not in message
    assert "\n" not in message


def test_what_is_shown_of_a_url_helps_to_find_it() -> None:
    with pytest.raises(RelayError, match=r"'redis://\*\*\*@host:99999/1'"):
        parse_url("redis://user:pass@host:99999/1")
    with pytest.raises(RelayError, match=r"'redis\+sentinel://a,b:1'"):
        parse_url("redis+sentinel://a,b:1")


def test_a_file_that_holds_no_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("a certificate\n")
    with pytest.raises(RelayError, match="holds no certificates in PEM format"):
        parse_url(f"rediss://h?ca={file}")


def test_certificates_of_an_own_authority(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ours")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    file = tmp_path / "ca.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) * 2)
    server = parse_url(f"rediss://h?ca={file}")
    assert server.tls == Tls((certificate, certificate))
    assert server.name == "rediss://h"


def test_nothing_shows_a_password() -> None:
    server = parse_url("redis://someone:secret@h/1")
    assert "secret" not in repr(server)
    assert "someone" not in repr(server)


@given(
    st.text(max_size=30), st.sampled_from(["redis://", "redis+unix:///", "redis+sentinel://h/", "rediss://h?ca=", ""])
)
def test_any_text_is_a_server_or_a_mistake(text: str, scheme: str) -> None:
    try:
        parse_url(scheme + text)
    except RelayError as mistake:
        assert str(mistake).isprintable()  # noqa: PT017 - any of the two is right
