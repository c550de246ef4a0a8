"""The routing that ``--routing`` names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from twisted_chat.consumers import django
from twisted_chat.consumers.errors import RoutingError
from twisted_chat.consumers.routing import Router


class Loaded(NamedTuple):
    """A routing, and what is to be called around each of its consumers (None: nothing)."""

    router: Router
    around: Callable[[], None] | None


def load_routing(name: str, environ: Mapping[str, str], directory: Path) -> Loaded:
    """The routing with the name ``package.module:attribute``, found from `directory` or as Python finds modules.

    Django is set up before, where ``DJANGO_SETTINGS_MODULE`` is set. Raises `RoutingError`, one readable line.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise RoutingError(f"{name!r} will not do; give MODULE:NAME, for example myapp.routing:channel_routing")
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    try:
        around = django.set_up(environ)
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return Loaded(Router(found), around)
    except RoutingError as error:
        raise RoutingError(f"{name}: {error}") from None
    except Exception as error:
        raise RoutingError(f"{name}: {type(error).__name__}: {_line(error)}{_place(error, directory)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _place(error: Exception, directory: Path) -> str:
    """Where in the user's code it was, as far as that is known: in `directory`, rather than in what that calls."""
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and "importlib" not in frame.filename and frame.filename != __file__
    ]
    near = [frame for frame in theirs if Path(frame.filename).parent.is_relative_to(directory)]
    for frame in (near or theirs)[-1:]:
        return f" ({frame.filename}, line {frame.lineno})"
    return ""
