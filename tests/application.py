"""What twistd gives services to."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService
from twisted.logger import ILogObserver


class Application(MultiService):
    """Takes the observer of its log."""

    def __init__(self) -> None:
        super().__init__()
        self.observer: Any = None

    def setComponent(self, interface: object, observer: ILogObserver) -> None:
        assert interface is ILogObserver
        self.observer = observer
