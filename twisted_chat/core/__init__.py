"""Rooms, members, positions and limits: no I/O, no Twisted, no clock (`now` is an argument)."""
