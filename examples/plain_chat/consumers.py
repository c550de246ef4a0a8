"""A chat in one class: whoever opens ``/ws/ROOM/?name=ann`` hears what is said in the room, and who comes and goes."""

import json
from urllib.parse import parse_qs

from twisted_chat.consumers import JsonWebsocketConsumer

LONGEST_NAME = 40
LONGEST_MESSAGE = 4096


class ChatConsumer(JsonWebsocketConsumer):
    channel_session = True

    def connection_groups(self, room, **kwargs):
        return [f"chat-{room}"]

    def connect(self, message, room):
        query = parse_qs(message["query_string"].decode("latin-1"))
        name = " ".join(query.get("name", [""])[0].split())
        if not 0 < len(name) <= LONGEST_NAME:
            self.close()  # refused, with status 403
            return
        message.channel_session["name"] = name
        message.reply_channel.send({"accept": True})
        self.tell(room, event="came")

    def receive(self, content, room):
        text = content.get("message") if isinstance(content, dict) else None
        if isinstance(text, str) and 0 < len(text.strip()) <= LONGEST_MESSAGE:
            self.tell(room, event="said", message=text)
        else:
            self.send({"event": "refused", "message": f'send {{"message": "…"}}, up to {LONGEST_MESSAGE} characters'})

    def disconnect(self, message, room):
        if "name" in message.channel_session:
            self.tell(room, event="went")

    def tell(self, room, **fields):
        """Tell everybody in the room, in the name of this client."""
        self.group_send(f"chat-{room}", {"name": self.message.channel_session["name"], **fields})

    @classmethod
    def decode_json(cls, text):
        try:
            return json.loads(text)
        except ValueError:
            return None
