"""What is an address, and what is a name."""

from __future__ import annotations

import pytest

from twisted_chat.core.address import is_address


@pytest.mark.parametrize("name", ["127.0.0.1", "192.0.2.7", "::1", "2001:db8::1"])
def test_addresses(name: str) -> None:
    assert is_address(name)


@pytest.mark.parametrize("name", ["", "localhost", "example.com", "[::1]", "127.0.0.1:80", "127.1", "256.0.0.1"])
def test_what_is_none(name: str) -> None:
    assert not is_address(name)
