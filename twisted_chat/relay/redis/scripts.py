"""The scripts that Redis runs for us, each as one step that nothing comes in between of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_chat.relay.redis.errors import error_code


class Script:
    """A file of ``lua/`` in a package: this one, or another that has scripts of its own.

    after
        a file of functions that it uses
    """

    def __init__(self, name: str, package: str = __package__, *, after: str | None = None) -> None:
        lua = files(package).joinpath("lua")
        functions = lua.joinpath(after).read_bytes() if after is not None else b""
        self.text: Final = functions + lua.joinpath(name).read_bytes()
        self.sha: Final = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


PUBLISH: Final = Script("publish.lua")
HISTORY: Final = Script("history.lua")
PRESENCE: Final = Script("presence.lua")
HEARTBEAT: Final = Script("heartbeat.lua")
SCRIPTS: Final = (PUBLISH, HISTORY, PRESENCE, HEARTBEAT)


class Call(NamedTuple):
    """A script with its arguments, as its file says."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[bytes | str | int, ...]


class ScriptCaller:
    """Calls scripts by their hash, in the order in which they are asked for.

    Each connection loads them when it is made. When Redis has forgotten them all the same (SCRIPT FLUSH), it refuses
    those that are under way; what is asked for from then on waits, so that it does not overtake them.
    """

    def __init__(self, execute: Callable[..., Deferred[Any]], scripts: Sequence[Script] = SCRIPTS) -> None:
        self._execute = execute
        self._scripts = scripts
        self._under_way = 0
        self._refused: list[_Asked] = []
        self._later: list[_Asked] = []

    def call(self, call: Call) -> Deferred[Any]:
        """Fails as `CommandProtocol.execute_command` does."""
        asked = _Asked(call, Deferred())
        if self._refused:
            self._later.append(asked)
        else:
            self._send(asked)
        return asked.done

    def _send(self, asked: _Asked, *, again: bool = False) -> None:
        script, keys, args = asked.call
        self._under_way += 1
        self._execute("EVALSHA", script.sha, len(keys), *keys, *args).addCallbacks(
            self._answered, self._failed, callbackArgs=(asked,), errbackArgs=(asked, again)
        )

    def _answered(self, reply: Any, asked: _Asked) -> None:
        self._under_way -= 1
        self._resume()
        asked.done.callback(reply)

    def _failed(self, failure: Failure, asked: _Asked, again: bool) -> None:
        self._under_way -= 1
        forgotten = error_code(failure.value) == "NOSCRIPT" and not again
        if forgotten:
            self._refused.append(asked)
        self._resume()
        if not forgotten:
            asked.done.errback(failure)

    def _resume(self) -> None:
        if self._under_way or not self._refused:
            return
        refused, self._refused = self._refused, []
        later, self._later = self._later, []
        for script in self._scripts:
            self._execute("SCRIPT", "LOAD", script.text).addErrback(_ignore)
        for asked in refused:
            self._send(asked, again=True)
        for asked in later:
            self._send(asked, again=True)


class _Asked(NamedTuple):
    call: Call
    done: Deferred[Any]


def _ignore(_: Failure) -> None:
    """The calls that follow fail as well."""
