"""h2spec, the conformance test of HTTP/2, against a server as users start it.

It is a program in Go, which `.ci/run` builds where Go is. What matters most of it is in
`tests/server/http/http2/test_rfc9113.py` too, which needs none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.twistd import Server

CASES = 146
"""With those that are only for who wants it strict."""

BOTH_PROTOCOLS = {"Sends invalid connection preface"}
"""On a port without TLS what does not begin like HTTP/2 is HTTP/1.1, and gets HTTP/1.1's 400 before the end."""


@pytest.fixture
def verdicts(tmp_path: Path) -> Callable[..., dict[str, str | None]]:
    """Runs h2spec with options; what each case that did not pass has to say."""
    program = shutil.which("h2spec")
    if program is None:
        if os.environ.get("TESTS_REQUIRE_H2SPEC") == "1":
            pytest.fail("TESTS_REQUIRE_H2SPEC=1, but h2spec is not on PATH")
        pytest.skip("h2spec is not on PATH: go install github.com/summerwind/h2spec/cmd/h2spec@latest")

    def run(*options: str) -> dict[str, str | None]:
        report = tmp_path / "report.xml"
        command = [program, "--strict", "--timeout", "20", "--junit-report", str(report), "--host", "127.0.0.1"]
        ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=200, check=False)
        assert report.exists(), ran.stdout + ran.stderr
        # Our own h2spec wrote it.
        cases = ET.parse(report).findall(".//testcase")
        assert len(cases) == CASES, ran.stdout
        return {case.attrib["classname"]: "".join(case.itertext()) for case in cases if len(case)}

    return run


def test_with_tls(twistd: Callable[..., Server], verdicts: Any) -> None:
    server = twistd("--self-signed", endpoint="tls:{port}:interface=127.0.0.1")
    assert verdicts("--port", str(server.port), "--tls", "--insecure") == {}
    assert "Traceback" not in server.log


def test_in_the_clear(twistd: Callable[..., Server], verdicts: Any) -> None:
    server = twistd()
    assert verdicts("--port", str(server.port)).keys() <= BOTH_PROTOCOLS
    assert "Traceback" not in server.log


def test_in_a_room(twistd: Callable[..., Server], verdicts: Any) -> None:
    """The same of a path whose answers come later, from a relay."""
    server = twistd("--self-signed", endpoint="tls:{port}:interface=127.0.0.1")
    assert verdicts("--port", str(server.port), "--tls", "--insecure", "--path", "/chat/lobby") == {}
    assert "Traceback" not in server.log
