"""The pages."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.views.generic import CreateView

from chat.forms import RoomForm
from chat.models import Room


class SignUp(CreateView):
    """Anybody can have an account. Take this away where that is not so."""

    form_class = UserCreationForm
    template_name = "registration/sign_up.html"
    success_url = reverse_lazy("login")


@login_required
def rooms(request):
    form = RoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return redirect("room", form.save().label)
    return render(request, "chat/rooms.html", {"rooms": Room.objects.order_by("name"), "form": form})


@login_required
def room(request, label):
    found = get_object_or_404(Room, label=label)
    return render(request, "chat/room.html", {"room": found, "sockets": settings.CHAT_SOCKETS})
