"""Who is asking: tokens, API keys and origins.

Key files are read once, when the server starts. What is wrong with one raises `KeyFileError`; what is wrong with a
client's token, key or origin raises `ChatError`. Nothing here shows a secret in its ``repr`` or in a message.
"""

from twisted_chat.auth.api_keys import ApiKeys
from twisted_chat.auth.files import KeyFileError
from twisted_chat.auth.keys import SigningKey
from twisted_chat.auth.origins import OriginError, Origins
from twisted_chat.auth.tokens import TokenKeys, make_token, token_from

__all__ = [
    "ApiKeys",
    "KeyFileError",
    "OriginError",
    "Origins",
    "SigningKey",
    "TokenKeys",
    "make_token",
    "token_from",
]
