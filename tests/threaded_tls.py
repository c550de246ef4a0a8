"""TLS for clients that read in one thread and write in another, as those of `websockets.sync` do."""

from __future__ import annotations

import ssl
from pathlib import Path


def threaded_context(authority: Path | None = None) -> ssl.SSLContext:
    """Trusts `authority`; without one, everybody.

    With TLS 1.3 a server sends its tickets after the handshake. Reading them in one thread while another writes is more
    than OpenSSL allows, and Python only prevents it from 3.13 on: one request in some thousands was never sent.
    """
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    if authority is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
