"""Which consumers are for which sockets: what ROOT_URLCONF is for views. Named on the command line of twisted_chat."""

from twisted_chat.consumers import include

channel_routing = [
    include("chat.routing.channel_routing", path=r"^/ws"),
]
