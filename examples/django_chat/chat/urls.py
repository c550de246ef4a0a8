"""The pages, and what programs ask for."""

from django.urls import path

from chat import api, views

urlpatterns = [
    path("", views.rooms, name="rooms"),
    path("sign-up/", views.SignUp.as_view(), name="sign-up"),
    path("rooms/<slug:label>/", views.room, name="room"),
    path("api/rooms/", api.Rooms.as_view()),
    path("api/rooms/<slug:label>/messages/", api.Messages.as_view()),
    path("api/rooms/<slug:label>/token/", api.Token.as_view(), name="token"),
]
