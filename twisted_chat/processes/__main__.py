"""`python -m twisted_chat.processes`: `twistd`, as the supervisor starts it. Nobody else needs it."""

import signal

# Ctrl-C reaches all processes of a terminal. What it means comes from the supervisor.
signal.signal(signal.SIGINT, signal.SIG_IGN)

from twisted.scripts.twistd import run  # noqa: E402 - that takes a while, and it may come in it

run()
