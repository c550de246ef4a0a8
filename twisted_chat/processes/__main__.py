"""`python -m twisted_chat.processes`: `twistd`, as the supervisor starts it. Nobody else needs it."""

import signal

if __name__ == "__main__":
    # Ctrl-C reaches all processes of a terminal, and means what the supervisor says. First, for the rest takes a while.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from twisted.scripts.twistd import run

    run()
