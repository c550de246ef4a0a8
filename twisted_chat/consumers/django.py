"""Django, where the consumers use it: it is set up before they are imported. Without that nothing here imports it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from types import SimpleNamespace
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
    if not _is_set_up():
        return None
    settings = _settings()
    hosts = list(settings.ALLOWED_HOSTS)
    if not hosts and settings.DEBUG:
        return ["localhost", "127.0.0.1", "::1", ".localhost"]
    return hosts


def json_encoder() -> type[json.JSONEncoder]:
    """Django's, which knows dates, UUIDs and decimals; the usual one where Django was not set up."""
    if not _is_set_up():
        return json.JSONEncoder
    encoder: type[json.JSONEncoder] = importlib.import_module("django.core.serializers.json").DjangoJSONEncoder
    return encoder


def session_cookie() -> str:
    """The name of the cookie with the key of Django's session. Raises `RuntimeError` without Django."""
    return str(_settings().SESSION_COOKIE_NAME)


def http_session(cookies: Mapping[str, str]) -> Any:
    """Django's session of a visitor with these cookies; None for one without. Raises `RuntimeError` without Django."""
    settings = _settings()
    key = cookies.get(settings.SESSION_COOKIE_NAME)
    return importlib.import_module(settings.SESSION_ENGINE).SessionStore(key) if key else None


def user_of(session: Any) -> Any:
    """Django's user who is logged in in a session, or its ``AnonymousUser``. Raises `RuntimeError` without Django."""
    _settings()
    auth: Any = importlib.import_module("django.contrib.auth")
    # It takes a request, of which it looks at the session alone.
    return auth.get_user(SimpleNamespace(session=session))


def _is_set_up() -> bool:
    module: Any = sys.modules.get("django.conf")
    return module is not None and bool(module.settings.configured)


def _settings() -> Any:
    if not _is_set_up():
        raise RuntimeError("sessions and users are Django's, and it is not set up: set DJANGO_SETTINGS_MODULE")
    return sys.modules["django.conf"].settings
