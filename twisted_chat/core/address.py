"""Addresses of IP, where names may stand too."""

from __future__ import annotations

from ipaddress import ip_address


def is_address(name: str) -> bool:
    """Whether this is an address of IPv4 or IPv6, without brackets and port."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
