"""Python behind the sockets: consumers, their routing, channels and groups.

What was written for Django Channels 1 runs after a change of imports; ``docs/consumers.rst`` tells how.
"""

from __future__ import annotations

from twisted_chat.consumers.channel import Channel, Group
from twisted_chat.consumers.decorators import allowed_hosts_only, channel_session, enforce_ordering, on_reactor
from twisted_chat.consumers.errors import DenyConnection
from twisted_chat.consumers.generic import BaseConsumer, JsonWebsocketConsumer, WebsocketConsumer
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.routing import include, route, route_class
from twisted_chat.consumers.session import ChannelSession

__all__ = [
    "BaseConsumer",
    "Channel",
    "ChannelSession",
    "DenyConnection",
    "Group",
    "JsonWebsocketConsumer",
    "Message",
    "WebsocketConsumer",
    "allowed_hosts_only",
    "channel_session",
    "enforce_ordering",
    "include",
    "on_reactor",
    "route",
    "route_class",
]
