"""Which consumers are for which sockets; named on the command line: ``--routing routing:channel_routing``."""

from consumers import ChatConsumer

from twisted_chat.consumers import route_class

channel_routing = [
    route_class(ChatConsumer, path=r"^/ws/(?P<room>[-\w]{1,60})/$"),
]
