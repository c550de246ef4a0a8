"""What happens on the sockets. Runs in twisted_chat (``--routing``) or in its workers, in threads; Django as usual.

A client says ``{"message", "key"}``, or ``{"since": number}`` to be told again what came after that message. It is told
``{"number", "timestamp", "handle", "message", "key"}`` of each message that somebody says; ``{"history": [messages]}``
when it has connected, and when it asks; and ``{"errors", "key"}`` of what was refused.
"""

import json
import time
from urllib.parse import parse_qsl

from django.conf import settings

from chat.models import Room
from chat.serializers import MessageSerializer, frame_of
from twisted_chat.auth import TokenKeys, token_from
from twisted_chat.consumers import DenyConnection, Group, channel_session
from twisted_chat.core.errors import ChatError

TOKEN_KEYS = TokenKeys.from_file(settings.CHAT_TOKEN_KEY_FILE)

TOKEN_EXPIRED = 4001
"""The close code that tells the page to come back with another token."""

PAGE = 200
"""Messages of the history that a client is told at most; of more, the newest."""


@channel_session
def ws_connect(message, label):
    query = parse_qsl(message["query_string"].decode("latin-1"))
    try:
        user = TOKEN_KEYS.verify(token_from(message.header("authorization"), query) or "", time.time())
        user.check_read(label)
        user.check_write(label)
        room = Room.objects.get(label=label)
        user_id = int(user.user)
    except (ChatError, Room.DoesNotExist, ValueError):
        raise DenyConnection from None
    message.channel_session.update(room=room.pk, user=user_id, expires=user.expires)
    message.reply_channel.send({"accept": True})
    # First into the group, then to the database: what is said meanwhile comes twice rather than never, and the page
    # knows it by its number.
    Group(room.group).add(message.reply_channel)
    send_since(message, room, dict(query).get("since"))


@channel_session
def ws_receive(message, label):
    session = message.channel_session
    if session["expires"] is not None and time.time() > session["expires"]:
        message.reply_channel.send({"close": TOKEN_EXPIRED})
        return
    room = Room.objects.get(pk=session["room"])
    data = decoded(message.get("text"))
    if "since" in data:
        send_since(message, room, data["since"])
        return
    serializer = MessageSerializer(data=data)
    if not serializer.is_valid():
        message.reply_channel.send({"text": json.dumps({"errors": serializer.errors, "key": data.get("key")})})
        return
    said = serializer.validated_data
    # A client that saw no answer says it again, and a worker that died leaves this event to another one: the key is why
    # there is one message nevertheless.
    stored = room.say(session["user"], said["text"], said["key"])
    Group(room.group).send({"text": frame_of(stored)})


def send_since(message, room, number):
    """Tell one client what came after that number; without one, the newest."""
    since = int(number) if str(number).isdecimal() else 0
    newest = room.messages.filter(number__gt=since).select_related("author").order_by("-number")[:PAGE]
    history = MessageSerializer(reversed(newest), many=True).data
    message.reply_channel.send({"text": json.dumps({"history": history})})


def decoded(text):
    """What a client said; nothing that is no JSON object."""
    try:
        data = json.loads(text or "")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
