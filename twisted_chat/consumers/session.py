"""`channel_session`: what consumers keep for as long as a connection lives, in whichever process each of them runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import Any


class ChannelSession(MutableMapping[str, Any]):
    """A dictionary of what JSON knows. It is kept when the consumer returns, also when it raises.

    Raises `TypeError`, when it is to be kept, for what JSON does not know.
    """

    def __init__(self, data: bytes | None = None) -> None:
        self._data = data or b"{}"
        self._values: dict[str, Any] = json.loads(self._data)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<ChannelSession with {', '.join(sorted(map(str, self._values))) or 'nothing'}>"

    def flush(self) -> None:
        """Forget everything."""
        self._values.clear()

    def save(self) -> None:
        """Nothing needs to be done: it is kept when the consumer returns."""

    def changed(self) -> bytes | None:
        """What is to be kept, or None where nothing was changed, not even within a value."""
        try:
            data = json.dumps(self._values, separators=(",", ":")).encode("ascii")
        except (TypeError, ValueError) as error:
            raise TypeError(f"channel_session holds what JSON does not know: {error}") from None
        return data if data != self._data else None
