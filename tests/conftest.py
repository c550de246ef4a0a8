"""What every test is held to: nothing is left behind on the reactor, and nothing fails unseen."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

# How long an example takes says something of the machine, and nothing of the code; and what is not found in one run
# is not to be found in another, when somebody changed something else. To search for more:
# pytest --hypothesis-profile=search
ANYWHERE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", ANYWHERE, derandomize=True)
settings.register_profile("search", ANYWHERE, max_examples=2_000)
settings.load_profile("same")


@implementer(ILogObserver)
class LoggedFailures:
    """Failures that were logged during a test; one that expects some takes them with `flush`."""

    def __init__(self) -> None:
        self._events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_failure") is not None:
            self._events.append(event)

    def flush(self, *kinds: type[BaseException]) -> list[BaseException]:
        """The logged exceptions of these kinds (of any kind, if none is named), which are no error then."""
        taken = [event for event in self._events if not kinds or isinstance(event["log_failure"].value, kinds)]
        self._events = [event for event in self._events if event not in taken]
        return [event["log_failure"].value for event in taken]

    def describe(self) -> str:
        """What is left, for people."""
        return "\n".join(f"{formatEvent(event)}\n{event['log_failure'].getTraceback()}" for event in self._events)


def pytest_sessionstart() -> None:
    # What was imported until now stays: the collections between tests need not look at it.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fails the test that logs a failure, drops a failed Deferred or leaves a delayed call."""
    from twisted.internet import reactor

    failures = LoggedFailures()
    before = set(reactor.getDelayedCalls())
    globalLogPublisher.addObserver(failures)
    try:
        yield failures
        gc.collect()  # Deferreds in a cycle say only then that nobody handled them
    finally:
        globalLogPublisher.removeObserver(failures)
    calls = [call for call in reactor.getDelayedCalls() if call not in before]
    left = [str(call) for call in calls]  # one that was cancelled does not say any more what it was
    for call in calls:
        call.cancel()
    assert not left, f"delayed calls left: {left}"
    described = failures.describe()
    assert not described, f"logged failures:\n{described}"
