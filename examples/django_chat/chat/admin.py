"""Rooms and messages in Django's administration."""

from django.contrib import admin

from chat.models import Message, Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ["label", "name"]
    fields = ["label", "name"]
    prepopulated_fields = {"label": ["name"]}


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ["room", "number", "timestamp", "author", "text"]
    list_filter = ["room"]

    def has_add_permission(self, request):
        return False  # it would be told to nobody

    def has_change_permission(self, request, obj=None):
        return False
