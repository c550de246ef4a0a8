"""Python behind the sockets: consumers, their routing, channels and groups.

What was written for Django Channels 1 runs after a change of imports; ``docs/consumers.rst`` tells how.
"""

from __future__ import annotations

from twisted_chat.consumers.channel import Channel, Group
from twisted_chat.consumers.decorators import allowed_hosts_only, channel_session, enforce_ordering, on_reactor
from twisted_chat.consumers.elsewhere import send_through
from twisted_chat.consumers.errors import ConsumeLater, DenyConnection, SendNotAvailableOnDemultiplexer
from twisted_chat.consumers.generic import BaseConsumer, JsonWebsocketConsumer, WebsocketConsumer
from twisted_chat.consumers.message import Message
from twisted_chat.consumers.multiplexing import WebsocketDemultiplexer, WebsocketMultiplexer
from twisted_chat.consumers.routing import include, route, route_class
from twisted_chat.consumers.session import ChannelSession
from twisted_chat.consumers.users import (
    channel_and_http_session,
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
    http_session,
    http_session_user,
    transfer_user,
)

__all__ = [
    "BaseConsumer",
    "Channel",
    "ChannelSession",
    "ConsumeLater",
    "DenyConnection",
    "Group",
    "JsonWebsocketConsumer",
    "Message",
    "SendNotAvailableOnDemultiplexer",
    "WebsocketConsumer",
    "WebsocketDemultiplexer",
    "WebsocketMultiplexer",
    "allowed_hosts_only",
    "channel_and_http_session",
    "channel_and_http_session_user_from_http",
    "channel_session",
    "channel_session_user",
    "channel_session_user_from_http",
    "enforce_ordering",
    "http_session",
    "http_session_user",
    "include",
    "on_reactor",
    "route",
    "route_class",
    "send_through",
    "transfer_user",
]
