"""Rooms and messages as JSON: for the API, and for the sockets."""

import json

from rest_framework import serializers

from chat.models import Message, Room


class RoomSerializer(serializers.ModelSerializer):
    class Meta:
        model = Room
        fields = ["label", "name"]


class MessageSerializer(serializers.ModelSerializer):
    """What clients write is `message` and `key`; the rest is how it was stored."""

    handle = serializers.CharField(source="author.username", read_only=True)
    message = serializers.CharField(source="text", max_length=Message._meta.get_field("text").max_length)
    key = serializers.CharField(
        max_length=Message._meta.get_field("key").max_length, required=False, allow_null=True, default=None
    )

    class Meta:
        model = Message
        fields = ["number", "timestamp", "handle", "message", "key"]
        read_only_fields = ["number", "timestamp"]


def frame_of(message):
    """What those are told who have the room open."""
    return json.dumps(MessageSerializer(message).data)
