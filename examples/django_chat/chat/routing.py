"""The sockets of this application."""

from chat import consumers
from twisted_chat.consumers import route

PATH = r"^/(?P<label>[-\w]+)/$"

channel_routing = [
    route("websocket.connect", consumers.ws_connect, path=PATH),
    route("websocket.receive", consumers.ws_receive, path=PATH),
]
