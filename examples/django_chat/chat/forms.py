"""What people fill in."""

from django import forms
from django.utils.text import slugify

from chat.models import Room


class RoomForm(forms.ModelForm):
    """A new room; its label is made of its name."""

    class Meta:
        model = Room
        fields = ["name"]

    def clean_name(self):
        name = self.cleaned_data["name"]
        label = slugify(name)[: Room._meta.get_field("label").max_length]
        if not label:
            raise forms.ValidationError("A name has at least one letter or digit.")
        if Room.objects.filter(label=label).exists():
            raise forms.ValidationError("There is a room with this name, or one like it.")
        self.instance.label = label
        return name
