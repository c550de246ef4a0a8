"""Who is asking, and for whom: tokens, API keys, origins and hosts.

Key files are read once, when the server starts. What is wrong with one raises `KeyFileError`; what is wrong with a
client's token, key, origin or host raises `ChatError`. Nothing here shows a secret in its ``repr`` or in a message.
"""

from twisted_chat.auth.api_keys import ApiKeys
from twisted_chat.auth.files import KeyFileError
from twisted_chat.auth.hosts import HostError, Hosts
from twisted_chat.auth.keys import SigningKey
from twisted_chat.auth.origins import OriginError, Origins, is_hostless
from twisted_chat.auth.tokens import TokenKeys, make_token, token_from

__all__ = [
    "ApiKeys",
    "HostError",
    "Hosts",
    "KeyFileError",
    "OriginError",
    "Origins",
    "SigningKey",
    "TokenKeys",
    "is_hostless",
    "make_token",
    "token_from",
]
