"""Choosing a form by the Accept header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.wire.accept import preferred

OFFERED = ("application/json", "text/event-stream", "text/html")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", "text/html"),
        ("text/*", "text/event-stream"),
        ("text/*;q=0.5, text/html", "text/html"),
        ("text/html;q=0.1, */*;q=0.2", "application/json"),
        ("TEXT/HTML", "text/html"),
        ("text/html;level=1;q=0.7", "text/html"),
        ("application/json;q=0, */*", "text/event-stream"),
        ("application/json;q=nonsense, text/html;q=0.1", "text/html"),
        ("image/png", None),
        ("application/json;q=0", None),
        (", ,", None),
    ],
)
def test_the_client_prefers(accept: str | None, chosen: str | None) -> None:
    assert preferred(accept, OFFERED) == chosen


@given(st.text())
def test_no_header_is_an_error(accept: str) -> None:
    assert preferred(accept, OFFERED) in {*OFFERED, None}
