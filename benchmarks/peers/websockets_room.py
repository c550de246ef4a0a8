"""websockets, with its broadcast(). websockets_room.py PORT [CERTIFICATE KEY]

On uvloop where that is installed.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.server import broadcast, serve

try:
    from uvloop import run
except ImportError:
    from asyncio import run

members = set()


async def chat(socket):
    members.add(socket)
    try:
        async for message in socket:
            broadcast(members, message)
    finally:
        members.discard(socket)


async def main(port, certificate=None, key=None):
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    async with serve(chat, "127.0.0.1", int(port), compression=None, backlog=4096, ssl=context):
        await asyncio.Future()


run(main(*sys.argv[1:]))
