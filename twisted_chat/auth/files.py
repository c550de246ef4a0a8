"""Files with keys in them."""

from __future__ import annotations

import codecs
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from twisted.logger import Logger

LARGEST: Final = 262_144
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
"""What is in no text: white space aside, the control characters."""

_log = Logger()


class KeyFileError(Exception):
    """A key file cannot be used; the message is one readable line that names it and says what would be right."""


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file holds: text without surrounding white space, or bytes as they are."""

    path: Path
    content: bytes = field(repr=False)
    world_readable: bool

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> KeyFile:
        """The file at `path`, at most 256 KiB; raises `KeyFileError`."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
                mode = os.fstat(file.fileno()).st_mode
        except (OSError, ValueError) as error:  # ValueError: a path with a null byte
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise KeyFileError(f"the key file {path} cannot be read: {reason}") from None
        # Windows has no such bits and reports them as set.
        exposed = os.name == "posix" and bool(mode & stat.S_IROTH)
        found = cls(path, _without_space(content), exposed)
        if len(content) > LARGEST:
            found.refuse(f"is larger than {LARGEST} bytes; keys are shorter")
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            # What > writes in Windows PowerShell.
            found.refuse("is UTF-16 text; save it as UTF-8")
        return found

    def refuse(self, what: str) -> NoReturn:
        """Raise `KeyFileError`: the file `what` (a verb and what follows it)."""
        raise KeyFileError(f"the key file {self.path} {what}")

    def warn_if_exposed(self) -> None:
        """For a file with a secret: say so in the log when everyone on this machine can read it."""
        if self.world_readable:
            _log.warn(
                "every user of this machine can read the secret in {path}; make it private: chmod 600 {path}",
                path=str(self.path),
            )


def _without_space(content: bytes) -> bytes:
    # The last byte of a binary key may look like white space, and without it the key would not be known as one.
    return content if _BINARY.search(content) else content.removeprefix(codecs.BOM_UTF8).strip()
