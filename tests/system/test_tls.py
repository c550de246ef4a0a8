"""TLS as curl, OpenSSL, httpx and Python see it; certificates by name, and renewed under a connection."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.x509 import load_der_x509_certificate

from tests.system.conftest import Authority
from tests.threaded_tls import threaded_context
from tests.twistd import Server, until

StartServer = Callable[..., Server]

PATIENCE = 90.0
ENDPOINT = "tls:{port}:interface=127.0.0.1"

needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def serial_number(server: Server, name: str, trusted: Path) -> int:
    """Of the certificate that a client gets that asks for `name` and verifies it."""
    context = ssl.create_default_context(cafile=str(trusted))
    with (
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=name) as client,
    ):
        certificate = client.getpeercert(binary_form=True)
    assert certificate is not None
    return load_der_x509_certificate(certificate).serial_number


@pytest.fixture(scope="module")
def curl_speaks_http2() -> bool:
    return "HTTP2" in run("curl", "--version").stdout


@needs_curl
@needs_openssl
def test_self_signed_for_development(twistd: StartServer, tmp_path: Path, curl_speaks_http2: bool) -> None:
    server = twistd("--self-signed", endpoint=ENDPOINT)
    trusted = tmp_path / "self-signed" / "self-signed.pem"
    posting = ["--header", "content-type: application/json", "--data", '{"handle": "ann", "message": "hi"}']
    posting += ["--write-out", "%{http_code} %{http_version}"]
    versions = {"--http1.1": "201 1.1"} | ({"--http2": "201 2"} if curl_speaks_http2 else {})
    for option, outcome in versions.items():
        for host in ("localhost", "127.0.0.1"):
            url = f"https://{host}:{server.port}/chat/lobby"
            posted = run("curl", "--silent", "--show-error", option, "--cacert", trusted, *posting, url)
            assert posted.stdout.endswith(outcome), posted.stderr
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        context = ssl.create_default_context(cafile=str(trusted))
        with httpx.Client(http2=http2, verify=context, trust_env=False, timeout=PATIENCE) as client:
            answer = client.get(f"https://localhost:{server.port}/chat/lobby")
        assert (answer.http_version, len(answer.json()["messages"])) == (version, 2 * len(versions))

    # A restart keeps the certificate, and with it the exceptions that browsers made for it.
    before = trusted.read_bytes()
    server.restart()
    assert trusted.read_bytes() == before


@needs_openssl
def test_what_is_negotiated(twistd: StartServer, port: int) -> None:
    server = twistd("--self-signed", "--admin-port", f"tcp:{port}:interface=127.0.0.1", endpoint=ENDPOINT)

    def negotiate(*options: str) -> str:
        ended = run("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *options)
        return ended.stdout + ended.stderr

    assert "ALPN protocol: h2" in negotiate("-alpn", "http/1.1,h2"), "ours is the choice"
    assert "ALPN protocol: http/1.1" in negotiate("-alpn", "http/1.1")
    assert "No ALPN negotiated" in negotiate()
    assert "Protocol  : TLSv1.2" in negotiate("-tls1_2")
    assert "New, TLSv1.3, Cipher is TLS_" in negotiate("-tls1_3")
    weak = ("-cipher", "DEFAULT@SECLEVEL=0")
    for old in ("-tls1", "-tls1_1"):
        assert "Cipher is (NONE)" in negotiate(old, *weak)
    for cipher in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA"):
        assert "Cipher is (NONE)" in negotiate("-tls1_2", "-cipher", f"{cipher}@SECLEVEL=0"), "no CBC"

    def failures() -> dict[str, str]:
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=PATIENCE).text
        return dict(re.findall(r'^twisted_chat_tls_failures_total{reason="(\w+)"} (\S+)$', metrics, re.MULTILINE))

    # A client may be told before it is counted.
    until(lambda: failures().items() >= {"unsupported_protocol": "2.0", "no_shared_cipher": "2.0"}.items())


@needs_curl
def test_each_name_has_its_certificate(twistd: StartServer, tmp_path: Path, authority: Authority) -> None:
    live = tmp_path / "live"
    one = authority.issue(live / "one.example", "one.example")
    two = authority.issue(live / "two.example", "*.two.example", "two.example")
    server = twistd("--certificates", live, endpoint=ENDPOINT)
    assert serial_number(server, "one.example", authority.file) == one
    assert serial_number(server, "two.example", authority.file) == two
    assert serial_number(server, "any.TWO.example", authority.file) == two
    with pytest.raises(ssl.SSLCertVerificationError):
        serial_number(server, "three.example", authority.file)
    for name in ("one.example", "any.two.example"):
        url, resolved = f"https://{name}:{server.port}/chat/", f"{name}:{server.port}:127.0.0.1"
        asked = run("curl", "--silent", "--show-error", "--cacert", authority.file, "--resolve", resolved, url)
        assert json.loads(asked.stdout)["messages"] == [], asked.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_a_renewal_leaves_connections_alone(twistd: StartServer, tmp_path: Path, authority: Authority) -> None:
    # The place that is looked at without any option, and an endpoint with nothing but its port.
    certificates = tmp_path / "certificates"
    before = authority.issue(certificates, "chat.example", lifetime=timedelta(days=3))
    server = twistd(endpoint="tls:{port}")
    server.logged("the certificate for ('chat.example',) expires in 3.0 days")
    with server.socket(ssl=threaded_context(authority.file), server_hostname="chat.example") as room:

        def talk(message: str) -> None:
            room.send(json.dumps({"handle": "ann", "message": message}))
            assert json.loads(room.recv(PATIENCE))["message"] == message

        talk("with the old certificate")
        after = authority.issue(certificates, "chat.example")
        server.signal(signal.SIGHUP)
        until(lambda: serial_number(server, "chat.example", authority.file) == after)
        assert before != after
        talk("new clients have the new one")

        # A renewal that went wrong, and one that is being written, change nothing.
        authority.issue(tmp_path / "other", "chat.example")
        shutil.copy(tmp_path / "other" / "privkey.pem", certificates)
        server.signal(signal.SIGHUP)
        server.logged("fullchain.pem: no private key here fits the certificate of chat.example")
        (certificates / "fullchain.pem").write_bytes((tmp_path / "other" / "fullchain.pem").read_bytes()[:200])
        server.signal(signal.SIGHUP)
        server.logged("fullchain.pem: cut off, or still being written")
        assert serial_number(server, "chat.example", authority.file) == after
        talk("and here we still are")
    assert "Traceback" not in server.log
