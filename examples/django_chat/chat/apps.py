"""Django's name for this application."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"
