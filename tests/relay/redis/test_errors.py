"""What clients are told, and what the log is told."""

from __future__ import annotations

import pytest
from OpenSSL import SSL
from twisted.internet import defer, error
from txredisapi import ResponseError

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.redis.errors import (
    KNOWN,
    Known,
    LinkDownError,
    LinkFullError,
    LinkLostError,
    describe,
    error_code,
    refusal,
)

OOM = "OOM command not allowed when used memory > 'maxmemory'."
OOM_OF_REDIS_6 = f"ERR Error running script (call to f_12ab): @user_script:31: @user_script: 31: -{OOM}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (OOM, "OOM"),
        (OOM_OF_REDIS_6, "OOM"),
        ("ERR unknown command 'FOO', with args beginning with: '-OOM'", "UNKNOWN"),
        ("READONLY You can't write against a read only replica. script: 12ab", "READONLY"),
        ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "NOPERM"),
        # In scripts, as Redis 7.0, 6.2 and Valkey say it.
        (
            "ERR The user executing the script can't run this command or subcommand script: 12ab, on @user_script:1.",
            "NOPERM",
        ),
        (
            "ERR Error running script (call to f_12ab): @user_script:1: The user executing the script can't run this",
            "NOPERM",
        ),
        (
            "ERR ACL failure in script: User u has no permissions to run the 'xadd' command script: on @user_script:1.",
            "NOPERM",
        ),
        ("ERR unknown command 'EVALSHA', with args beginning with: '12ab'", "UNKNOWN"),
        ("ERR Unknown Redis command called from script script: 12ab", "UNKNOWN"),
        ("ERR max number of clients reached", "MAXCLIENTS"),
        ("UNBLOCKED the stream key no longer exists", "UNBLOCKED"),
        ("ERR Error compiling script (new function): user_script:1: '=' expected near 'x'", "ERR"),
        ("something else", "ERR"),
        ("", "ERR"),
    ],
)
def test_codes(text: str, code: str) -> None:
    assert error_code(ResponseError(text)) == code


@pytest.mark.parametrize(
    ("trouble", "reason", "says"),
    [
        (LinkDownError(), Reason.TRY_AGAIN, "cannot be reached"),
        (LinkFullError(), Reason.TRY_AGAIN, "more to do"),
        (LinkLostError("a cable"), Reason.TRY_AGAIN, "repeat it with the same key"),
        (ResponseError(OOM), Reason.STORAGE_FULL, "full"),
        (ResponseError(OOM_OF_REDIS_6), Reason.STORAGE_FULL, "full"),
        (ResponseError("READONLY You can't write"), Reason.TRY_AGAIN, "another machine"),
        (ResponseError("MISCONF Redis is configured to save"), Reason.TRY_AGAIN, "disk"),
        (ResponseError("LOADING Redis is loading"), Reason.TRY_AGAIN, "starting"),
        (ResponseError("BUSY Redis is busy running a script"), Reason.TRY_AGAIN, "busy"),
        (ChatError(Reason.TRY_AGAIN, "as it was"), Reason.TRY_AGAIN, "as it was"),
    ],
)
def test_expected_trouble(trouble: Exception, reason: Reason, says: str) -> None:
    told = refusal(trouble)
    assert told.reason is reason
    assert says in told.message


@pytest.mark.parametrize("trouble", [ResponseError("WRONGTYPE of a key"), ResponseError("ERR syntax"), KeyError("x")])
def test_mistakes_are_not_shown(trouble: Exception) -> None:
    told = refusal(trouble)
    assert told.reason is Reason.TRY_AGAIN
    assert str(trouble) not in told.message


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_what_clients_are_told_is_nothing_of_the_operators(known: Known) -> None:
    assert known.reason.reconnect
    assert known.message.startswith("the server's storage")
    assert known.remedy not in known.message


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (error.ConnectionRefusedError(), "Connection was refused by other side."),
        (ResponseError("LOADING Redis is\n loading"), "LOADING Redis is loading"),
        (SSL.Error([("SSL routines", "", "certificate verify failed")]), "TLS: certificate verify failed"),
        (SSL.Error(), "TLS: the connection was closed during the handshake"),
        (defer.TimeoutError(), "it did not answer in time"),
        (KeyError(), "KeyError"),
    ],
)
def test_reasons_are_one_line(trouble: Exception, says: str) -> None:
    assert describe(trouble) == says
