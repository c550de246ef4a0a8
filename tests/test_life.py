"""`twisted_chat.life`: one that is busy is told from one that hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from tests.twistd import PATIENCE, environment
from twisted_chat.life import LifeSigns, Progress


class Thread:
    """What is called again and again, when the test says so."""

    def __init__(self) -> None:
        self.act: Callable[[], None] = lambda: None
        self.running = False

    def __call__(self, seconds: float, act: Callable[[], None]) -> Callable[[], None]:
        self.act, self.running = act, True
        return self.end

    def end(self) -> None:
        self.running = False


def test_signs_come_while_the_reactor_turns() -> None:
    clock, thread, signs = Clock(), Thread(), list[str]()
    service = LifeSigns(clock, 10.0, lambda: signs.append("sign"), thread)
    service.startService()
    assert len(signs) == 1, "the first one at once"
    for _ in range(3):
        clock.pump([5.0, 5.0])
        thread.act()
    assert len(signs) == 4
    thread.act()
    thread.act()
    assert len(signs) == 4, "it does not turn any more"
    clock.advance(5.0)
    thread.act()
    assert len(signs) == 5
    service.stopService()
    assert not thread.running
    assert not clock.getDelayedCalls()


def test_a_thread_outside_of_a_loop_makes_progress_only_by_turns() -> None:
    progress = Progress()
    looks: list[bool] = []

    def look() -> None:
        looks.append(progress.made())

    def elsewhere() -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    elsewhere()
    elsewhere()
    progress.turned()
    elsewhere()
    assert looks == [True, False, True]


BUSY = """
import sys, time
from twisted.internet import {install}
{install}.install()
from twisted.internet import reactor
from twisted_chat.life import LifeSigns

signs = []
service = LifeSigns(reactor, 0.05, lambda: signs.append(time.monotonic()))
seen = {{}}

def note(name, act):
    before = len(signs)
    act()
    seen[name] = len(signs) - before

def calls():
    # All are due in one turn, as the sockets of very many clients are.
    reactor.callLater(0, lambda: seen.update(start=len(signs)))
    for _ in range(15):
        reactor.callLater(0, lambda: time.sleep(0.1))
    reactor.callLater(0, lambda: seen.update(busy=len(signs) - seen["start"]))
    reactor.callLater(0, note, "hung", lambda: time.sleep(1.0))
    reactor.callLater(0, note, "loop", loop)
    reactor.callLater(0, reactor.stop)

def loop():
    # Always in another function, but never back in the reactor.
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        inner()

def inner():
    return sum(range(1000))

reactor.callWhenRunning(service.startService)
reactor.callLater(0.2, calls)
reactor.run()
service.stopService()
print(seen["busy"], seen["hung"], seen["loop"])
"""


@pytest.mark.parametrize("install", ["selectreactor", "asyncioreactor"])
def test_a_busy_reactor_gives_signs_and_one_that_hangs_does_not(install: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY.format(install=install)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    busy, hung, loop = map(int, done.stdout.split())
    # At each look another call is under way; of thirty looks a busy machine may miss many.
    assert busy >= 5, "in a turn with fifteen calls"
    # One look each may still see what was before.
    assert hung <= 2
    assert loop <= 2
