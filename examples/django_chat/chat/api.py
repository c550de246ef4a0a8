"""What programs ask for, and the page: rooms, messages, tokens."""

from django.conf import settings
from django.shortcuts import get_object_or_404
from rest_framework import generics
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import APIView

from chat.models import Room
from chat.serializers import MessageSerializer, RoomSerializer, frame_of
from chat.tokens import make_token
from twisted_chat.consumers import Group
from twisted_chat.consumers.errors import NotReadyError

PAGE = 200


class ChatAway(APIException):
    status_code = 503
    default_code = "chat_away"
    default_detail = "stored, but the chat server could not be told; post it again with the same key"


class Rooms(generics.ListCreateAPIView):
    queryset = Room.objects.order_by("label")
    serializer_class = RoomSerializer


class Messages(generics.ListCreateAPIView):
    """The newest messages, or with ``?before=NUMBER`` those before; a new one is stored, and told to all at once."""

    serializer_class = MessageSerializer

    @property
    def room(self):
        return get_object_or_404(Room, label=self.kwargs["label"])

    def get_queryset(self):
        messages = self.room.messages.select_related("author").order_by("-number")
        before = self.request.query_params.get("before", "")
        return messages.filter(number__lt=int(before)) if before.isdecimal() else messages

    def list(self, request, *args, **kwargs):
        newest = self.get_queryset()[:PAGE]
        return Response(self.get_serializer(reversed(newest), many=True).data)

    def perform_create(self, serializer):
        room, said = self.room, serializer.validated_data
        stored = serializer.instance = room.say(self.request.user.pk, said["text"], said["key"])
        try:
            Group(room.group).send({"text": frame_of(stored)})
        except NotReadyError as error:
            raise ChatAway from error


class Token(APIView):
    """What the page opens its socket with; it asks for one before each connection."""

    def get(self, request, label):
        room = get_object_or_404(Room, label=label)
        fields = {"token": make_token(request.user, room), "expires_in": settings.CHAT_TOKEN_SECONDS}
        return Response(fields, headers={"Cache-Control": "no-store"})
