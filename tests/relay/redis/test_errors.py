"""What clients are told, and what the log is told."""

from __future__ import annotations

import pytest
from OpenSSL import SSL
from twisted.internet import defer, error
from txredisapi import ResponseError

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.relay.redis.errors import (
    LinkDownError,
    LinkFullError,
    LinkLostError,
    describe,
    error_code,
    is_expected,
    refusal,
)

OOM = "OOM command not allowed when used memory > 'maxmemory'."
OOM_OF_REDIS_6 = f"ERR Error running script (call to f_12ab): @user_script:31: @user_script: 31: -{OOM}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (OOM, "OOM"),
        (OOM_OF_REDIS_6, "OOM"),
        ("ERR unknown command 'FOO', with args beginning with: '-OOM'", "ERR"),
        ("READONLY You can't write against a read only replica. script: 12ab", "READONLY"),
        ("NOSCRIPT No matching script. Please use EVAL.", "NOSCRIPT"),
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
    assert is_expected(trouble)


@pytest.mark.parametrize("trouble", [ResponseError("WRONGTYPE of a key"), ResponseError("ERR syntax"), KeyError("x")])
def test_mistakes_are_not_expected_and_not_shown(trouble: Exception) -> None:
    told = refusal(trouble)
    assert told.reason is Reason.TRY_AGAIN
    assert str(trouble) not in told.message
    assert not is_expected(trouble)


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
