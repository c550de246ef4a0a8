"""What every refusal tells beside its body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.web.test.requesthelper import DummyRequest

from twisted_chat.core.errors import ChatError, Reason
from twisted_chat.server.json_response import refuse


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_says_whether_to_come_back(reason: Reason) -> None:
    request: Any = DummyRequest([b""])
    body = refuse(request, ChatError(reason, "not now"))
    assert json.loads(body) == {"error": {"code": reason.code, "message": "not now"}}
    assert request.responseCode == reason.http
    assert request.responseHeaders.hasHeader("retry-after") == reason.reconnect
    assert request.responseHeaders.hasHeader("www-authenticate") == (reason.http == 401)
