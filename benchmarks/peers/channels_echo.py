"""An echo in Django Channels; with $THROUGH_REDIS by way of the channel layer, whose Redis is at $REDIS_PORT."""

import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="unused",  # nothing is signed here
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [("127.0.0.1", int(os.environ["REDIS_PORT"]))], "capacity": 1000},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402 - wants the settings
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import re_path  # noqa: E402

THROUGH_REDIS = "THROUGH_REDIS" in os.environ


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        if THROUGH_REDIS:
            await self.channel_layer.send(self.channel_name, {"type": "echo", "text": text_data})
        else:
            await self.send(text_data=text_data)

    async def echo(self, event):
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter({"websocket": URLRouter([re_path(r"^.*$", Echo.as_asgi())])})
