"""Tokens that let a browser open a socket: who the user is, and what he may do, signed for ten minutes.

They are those of twisted_chat (docs/security.rst): with --token-key-file they also open the rooms of the server itself.
"""

import time
from functools import cache

import jwt
from django.conf import settings


def make_token(user, room):
    """A token with which `user` may read `room`, and write to it."""
    now = int(time.time())
    claims = {
        "sub": str(user.pk),
        "info": {"handle": user.get_username()},
        "iat": now,
        "exp": now + settings.CHAT_TOKEN_SECONDS,
        "rooms": {"read": [room.label], "write": [room.label]},
    }
    return jwt.encode(claims, _secret(), algorithm="HS256")


@cache
def _secret():
    return settings.CHAT_TOKEN_KEY_FILE.read_bytes().strip()
