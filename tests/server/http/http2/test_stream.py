"""One stream: backpressure towards whoever writes, and event streams that live long."""

from __future__ import annotations

from typing import Any

import pytest
from h2 import events
from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPullProducer
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from tests.conftest import LoggedFailures
from tests.server.http.http2.conftest import Serve
from tests.server.http.writer import Writer
from twisted_chat.server.http.http2.stream import QUEUE_LIMIT


class EventStream(Resource):
    """Answers with a stream that the test writes to."""

    isLeaf = True

    def __init__(self, *, paced: bool = True) -> None:
        super().__init__()
        self.writer = Writer()
        self.ends: list[Any] = []
        self._paced = paced

    def render(self, request: Request) -> int:
        self.request = request
        self.channel: Any = request.channel
        request.setHeader("content-type", "text/event-stream")
        if self._paced:
            request.registerProducer(self.writer, True)
        request.notifyFinish().addBoth(self.ends.append)
        request.write(b": hello\n\n")
        return NOT_DONE_YET


def test_events_arrive_as_they_are_written(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    stream = client.request("GET", "/")
    assert client.head(stream)[b"content-type"] == b"text/event-stream"
    assert client.body(stream) == b": hello\n\n"
    for number in range(3):
        client.clock.advance(20)
        resource.request.write(b"data: %d\n\n" % number)
        client.exchange()
        assert client.body(stream).endswith(b"data: %d\n\n" % number)
    resource.request.unregisterProducer()
    resource.request.finish()
    client.exchange()
    assert client.ended(stream)
    assert resource.ends == [None]


def test_client_that_leaves_ends_the_request(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    stream = client.request("GET", "/")
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    client.exchange()
    (end,) = resource.ends
    assert isinstance(end, Failure)
    assert end.check(ConnectionLost)
    assert resource.writer.calls == ["stop"]
    resource.request.write(b"nobody listens")
    client.exchange()
    assert client.goaway_code() is None


def test_connection_that_is_lost_ends_the_request(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    client.request("GET", "/")
    client.lose()
    assert len(resource.ends) == 1
    assert resource.writer.calls == ["stop"]


def test_full_window_pauses_the_writer_and_an_open_one_resumes_it(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client(window=1_000)
    stream = client.request("GET", "/")
    resource.request.write(b"x" * 60_000)
    client.exchange()
    assert resource.writer.calls == []
    resource.request.write(b"x" * 10_000)
    assert resource.writer.calls == ["pause"]
    client.exchange()
    client.h2.increment_flow_control_window(50_000, stream)
    client.exchange()
    assert resource.writer.calls == ["pause"]
    client.h2.increment_flow_control_window(10_000, stream)
    client.exchange()
    assert resource.writer.calls == ["pause", "resume"]


def test_full_transport_pauses_the_writer(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    client.request("GET", "/")
    connection = client.transport.producer
    assert connection is not None
    connection.pauseProducing()
    assert resource.writer.calls == []
    resource.request.write(b"data: 1\n\n")
    client.clock.advance(0)
    assert resource.writer.calls == ["pause"]
    assert client.transport.value() == b""
    connection.resumeProducing()
    client.clock.advance(0)
    assert resource.writer.calls == ["pause", "resume"]
    assert b"data: 1" in client.transport.value()


def test_smaller_window_by_settings_is_respected_and_a_larger_one_resumes(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client(window=1_000)
    stream = client.request("GET", "/")
    client.h2.update_settings({4: 10})
    client.exchange()
    resource.request.write(b"x" * 5_000)
    client.exchange()
    assert len(client.body(stream)) <= 1_000
    client.h2.update_settings({4: 60_000})
    client.exchange()
    assert client.body(stream).endswith(b"x" * 5_000)


def test_paced_writer_may_be_paused_for_long(serve: Serve) -> None:
    resource = EventStream()
    site = serve(resource, idle_timeout=60, ping_interval=30)
    client = site.client(window=10)
    client.request("GET", "/")
    resource.request.write(b"x" * 1_000)
    for _ in range(20):
        client.clock.advance(30)
        client.exchange()
    assert resource.ends == []
    assert site.refused == []


def test_writer_that_knows_no_pause_is_bounded(serve: Serve) -> None:
    resource = EventStream(paced=False)
    site = serve(resource)
    client = site.client(window=10)
    stream = client.request("GET", "/")
    for _ in range(QUEUE_LIMIT // 65_536 + 2):
        resource.request.write(b"x" * 65_536)
    client.exchange()
    assert client.reset_code(stream) == ErrorCodes.ENHANCE_YOUR_CALM
    assert site.refused == ["stream_backlog"]
    assert len(resource.ends) == 1


def test_large_write_of_a_paced_writer_is_its_own_matter(serve: Serve) -> None:
    """It said how much may wait; a last word behind that, like a close frame, is no reason to cut it."""
    resource = EventStream()
    site = serve(resource)
    client = site.client(window=1 << 25)
    client.h2.increment_flow_control_window(1 << 25)
    stream = client.request("GET", "/")
    resource.request.write(b"x" * (QUEUE_LIMIT + 1))
    assert resource.writer.calls == ["pause"]
    resource.request.write(b"the end")
    client.exchange()
    assert client.body(stream).endswith(b"the end")
    assert site.refused == []


def test_pull_producer_is_asked_chunk_by_chunk(serve: Serve) -> None:
    @implementer(IPullProducer)
    class File:
        def __init__(self, request: Request) -> None:
            self.request = request
            self.chunks = [b"%d" % number * 10_000 for number in range(10)]

        def resumeProducing(self) -> None:
            self.request.write(self.chunks.pop(0))
            if not self.chunks:
                self.request.unregisterProducer()
                self.request.finish()

        def stopProducing(self) -> None:
            stopped.append(len(self.chunks))

    class Static(Resource):
        isLeaf = True

        def render(self, request: Request) -> int:
            files.append(File(request))
            request.registerProducer(files[-1], False)
            return NOT_DONE_YET

    files: list[File] = []
    stopped: list[int] = []
    client = serve(Static()).client(window=25_000)
    stream = client.request("GET", "/")
    assert len(files[0].chunks) == 7
    while not client.ended(stream):
        client.h2.increment_flow_control_window(25_000, stream)
        client.h2.increment_flow_control_window(25_000)
        client.exchange()
    assert client.body(stream) == b"".join(b"%d" % number * 10_000 for number in range(10))
    other = client.request("GET", "/")
    client.h2.reset_stream(other)
    client.exchange()
    assert stopped == [7]


def test_second_producer_is_an_error(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    client.request("GET", "/")
    with pytest.raises(RuntimeError):
        resource.channel.registerProducer(Writer(), True)


def test_producer_of_a_lost_stream_is_stopped_at_once(serve: Serve) -> None:
    resource = EventStream(paced=False)
    client = serve(resource).client()
    stream = client.request("GET", "/")
    client.h2.reset_stream(stream)
    client.exchange()
    resource.channel.registerProducer(resource.writer, True)
    assert resource.writer.calls == ["stop"]


def test_failing_producer_fails_its_stream_only(serve: Serve, logged_failures: LoggedFailures) -> None:
    class Broken(Writer):
        def resumeProducing(self) -> None:
            raise ZeroDivisionError

    resource = EventStream()
    resource.writer = Broken()
    client = serve(resource).client(window=10)
    stream = client.request("GET", "/")
    resource.request.write(b"x" * 100_000)
    client.exchange()
    client.h2.increment_flow_control_window(100_000, stream)
    client.h2.increment_flow_control_window(100_000)
    client.exchange()
    assert client.reset_code(stream) == ErrorCodes.INTERNAL_ERROR
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert client.goaway_code() is None


def test_aborted_request_hears_of_it_in_another_turn(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    stream = client.request("GET", "/")
    resource.channel.abortConnection()
    assert resource.ends == []
    client.exchange()
    assert len(resource.ends) == 1
    assert client.reset_code(stream) == ErrorCodes.CANCEL


def test_request_closed_before_any_answer_is_reset(serve: Serve) -> None:
    class Closes(Resource):
        isLeaf = True

        def render(self, request: Request) -> int:
            request.loseConnection()
            return NOT_DONE_YET

    client = serve(Closes()).client()
    stream = client.request("GET", "/")
    assert client.of(events.ResponseReceived, stream) == []
    assert client.reset_code(stream) == ErrorCodes.CANCEL


def test_addresses_are_the_connection_s(serve: Serve) -> None:
    resource = EventStream()
    client = serve(resource).client()
    client.request("GET", "/")
    request = resource.request
    assert request.getClientAddress() == client.transport.getPeer()
    assert request.getHost() == client.transport.getHost()
    assert request.transport is resource.channel


def test_stream_as_a_transport(serve: Serve) -> None:
    resource = EventStream(paced=False)
    client = serve(resource).client()
    stream = client.request("GET", "/")
    resource.channel.writeSequence([b"a", b"b"])
    client.exchange()
    assert client.body(stream).endswith(b"ab")
    resource.channel.stopProducing()
    client.exchange()
    assert client.reset_code(stream) == ErrorCodes.CANCEL
