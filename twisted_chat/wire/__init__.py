"""Bytes to commands and events to bytes: no I/O, no Twisted, no clock."""
