"""The relay of one process whose publications outlive it, in an SQLite database."""

from twisted_chat.relay.sqlite.database import MAX_BYTES
from twisted_chat.relay.sqlite.relay import SqliteRelay

__all__ = ["MAX_BYTES", "SqliteRelay"]
