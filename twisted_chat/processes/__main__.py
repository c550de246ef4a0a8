"""`python -m twisted_chat.processes`: `twistd`, as the supervisor starts it. Nobody else needs it."""

from twisted.scripts.twistd import run

run()
