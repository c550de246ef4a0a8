"""How code that is no consumer, such as a view, tells those who have a room open: the API of twisted_chat."""

import json
from functools import cache
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from django.conf import settings

SECONDS = 5


class NotSentError(Exception):
    """The server was not reached, or refused. Sending again with the same key is sent once."""


def send_to_group(group, text, key=None):
    """What `Group(group).send({"text": text})` is in a consumer. Raises `NotSentError`."""
    request = Request(  # noqa: S310 - where it leads to is a setting
        f"{settings.CHAT_SERVER}/api/send",
        json.dumps({"group": group, "text": text, "key": key}).encode(),
        {"Content-Type": "application/json", "X-API-Key": _api_key()},
    )
    try:
        # The server is next to us, not behind the proxy that the environment may name.
        with build_opener(ProxyHandler({})).open(request, timeout=SECONDS):
            pass
    except HTTPError as error:
        raise NotSentError(
            f"the chat server answered {error.code}: {error.read(1000).decode(errors='replace')}"
        ) from error
    except (URLError, OSError) as error:
        raise NotSentError(f"the chat server cannot be reached: {error}") from error


@cache
def _api_key():
    return settings.CHAT_API_KEY_FILE.read_text().split()[0]
