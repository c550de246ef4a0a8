"""Rooms, and what was said in them."""

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

LONGEST_TEXT = 4096
LONGEST_KEY = 64


class Room(models.Model):
    label = models.SlugField(unique=True, max_length=60)
    name = models.CharField(max_length=100)
    last_number = models.PositiveBigIntegerField(default=0, editable=False)

    def __str__(self):
        return self.name

    @property
    def group(self):
        """The name of the group of those who have the room open."""
        return f"chat-{self.label}"

    def say(self, author_id, text, key=None):
        """Store a message. The same author and key again: the message that is stored already.

        Messages are numbered without gaps, so whoever has 7 and gets 9 knows that 8 is missing. The row of the room is
        locked meanwhile: two workers cannot take the same number, nor make a lower one visible after a higher one.
        """
        with transaction.atomic():
            room = Room.objects.select_for_update().get(pk=self.pk)
            if key is not None:
                stored = room.messages.filter(author_id=author_id, key=key).first()
                if stored is not None:
                    return stored
            room.last_number += 1
            room.save(update_fields=["last_number"])
            return room.messages.create(number=room.last_number, author_id=author_id, text=text, key=key)


class Message(models.Model):
    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    number = models.PositiveBigIntegerField()
    timestamp = models.DateTimeField(default=timezone.now)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    text = models.TextField(max_length=LONGEST_TEXT)
    key = models.CharField(max_length=LONGEST_KEY, null=True, editable=False)

    class Meta:
        ordering = ["room", "number"]
        constraints = [
            models.UniqueConstraint(fields=["room", "number"], name="one message per number"),
            models.UniqueConstraint(fields=["room", "author", "key"], name="one message per key"),
        ]

    def __str__(self):
        return f"{self.room_id}/{self.number}"
