"""The rules of docs/deployment.rst that keep clients out of a room, in real proxies: no spelling gets past them."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.ports import free_port
from tests.twistd import Server, environment, until

DEPLOYMENT: Final = Path(__file__).parents[2] / "docs" / "deployment.rst"

NGINX_RULE: Final = "location ~ ^/chat/secret(?:/|$) { return 403; }"
NGINX: Final = """
daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {rule}
        location / {{ proxy_pass http://127.0.0.1:{server}; proxy_set_header Host $http_host; }}
    }}
}}
"""

HAPROXY_RULE: Final = "http-request deny if { path,url_dec -m reg ^/chat/secret(/|$) }"
HAPROXY: Final = """
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:{port}
    {rule}
    default_backend back
backend back
    server one 127.0.0.1:{server}
"""

PROXIES: Final = {
    "nginx": (NGINX, NGINX_RULE, ("-c",)),
    "haproxy": (HAPROXY, HAPROXY_RULE, ("-db", "-f")),
}

SPELLINGS: Final = [
    *("/chat/secret", "/chat/secret/", "/chat/secret?x", "http://127.0.0.1/chat/secret"),
    *("/chat//secret", "//chat/secret", "///chat///secret//", "/chat/secret//"),
    *("/%63hat/secret", "/chat/%73ecret", "/chat/%73%65%63%72%65%74", "/chat/s%65cret/"),
    *("/chat/%2fsecret", "/chat/%2Fsecret", "/chat%2Fsecret", "/chat/secret%2F", "/%2Fchat/secret"),
    *("/chat/./secret", "/./chat/secret", "/chat/%2e/secret", "/chat/x/../secret", "/chat/x/%2E%2e/secret"),
    *("/chat\\secret", "/chat/\\secret", "/chat/.%2fsecret", "/chat/x%2f..%2fsecret"),
    *("/%2563hat/secret", "/chat/secret/sub", "/chat/secret%2Fsub", "/chat/secret%00", "/chat/secret#x"),
]


@contextmanager
def proxy(name: str, server: Server, directory: Path) -> Iterator[int]:
    """Run a proxy before `server`, on the port that is given."""
    program = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip(f"needs {name}")
    template, rule, options = PROXIES[name]
    port = free_port()
    configuration = directory / f"{name}.conf"
    configuration.write_text(template.format(directory=directory, port=port, server=server.port, rule=rule))
    with subprocess.Popen([program, *options, str(configuration)], env=environment(), cwd=directory) as process:
        try:
            until(lambda: answers(port, "/chat/open"), f"{name}, which listens")
            yield port
        finally:
            process.terminate()


def answers(port: int, path: str) -> int:
    """Ask for a path just as it is written; the status of the answer, 0 where there is none."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode())
            return int(connection.makefile("rb").readline().split()[1])
    except (OSError, IndexError):
        return 0


@pytest.mark.parametrize("name", PROXIES)
def test_no_spelling_gets_past_a_rule(twistd: Callable[..., Server], tmp_path: Path, name: str) -> None:
    server = twistd("--relay", "memory:")
    with proxy(name, server, tmp_path) as port:
        assert answers(port, "/chat/open") == 200
        assert answers(port, "/chat/user%3A42") == 200
        assert server.post("hi", room="secret").status_code == 201, "there is something to find"
        assert {path: answers(port, path) for path in SPELLINGS if answers(port, path) not in (400, 403, 404)} == {}
    assert server.history("secret")


@pytest.mark.parametrize("name", PROXIES)
def test_the_rules_are_those_of_the_documentation(name: str) -> None:
    assert PROXIES[name][1] in DEPLOYMENT.read_text(encoding="utf-8")
