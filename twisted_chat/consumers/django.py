"""Django, where the consumers use it: it is set up before they are imported. Without that nothing here imports it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted_chat.consumers.errors import RoutingError


def set_up(environ: Mapping[str, str]) -> Callable[[], None] | None:
    """Set Django up if ``DJANGO_SETTINGS_MODULE`` is there; None otherwise.

    Returns what is to be called around each consumer, in its thread: it closes database connections that are broken or
    too old. Raises `RoutingError`.
    """
    settings = environ.get("DJANGO_SETTINGS_MODULE")
    if not settings:
        return None
    try:
        django: Any = importlib.import_module("django")
    except ModuleNotFoundError:
        raise RoutingError(
            f"DJANGO_SETTINGS_MODULE is {settings!r}, and Django is not installed here: install it, or unset that"
        ) from None
    django.setup()
    database: Any = importlib.import_module("django.db")
    close: Callable[[], None] = database.close_old_connections
    return close


def allowed_hosts() -> list[str] | None:
    """Django's ``ALLOWED_HOSTS``, for development what it stands for; None where Django was not set up."""
    module: Any = sys.modules.get("django.conf")
    if module is None or not module.settings.configured:
        return None
    hosts = list(module.settings.ALLOWED_HOSTS)
    if not hosts and module.settings.DEBUG:
        return ["localhost", "127.0.0.1", "::1", ".localhost"]
    return hosts
