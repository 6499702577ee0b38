"""Where a downloaded file goes: names that stay in their folder, and a file that is whole or not there.

All that touches the disk here runs in worker threads.
"""

import os
import re
from io import FileIO
from pathlib import Path

from ._attachments import safe_name
from ._errors import InvalidMessage


def settled_name(name: str) -> str:
    """Return a name that is a plain file's in any folder: not hidden or long, no drive, no device."""
    base = re.sub(r'[<>:|?*"]', "_", safe_name(name)).lstrip(". ").rstrip(". ")
    stem, dot, suffix = base.rpartition(".")
    suffix = suffix[-20:] if dot else ""
    # File systems count bytes; room is left for a number.
    kept = (stem if dot else base).encode()[:150].decode(errors="ignore")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", kept):
        kept = f"_{kept}"
    return (kept or "media") + dot + suffix


def name_of(media_id: str) -> str:
    """Return the name of a file that the server gave none: its id's, where that is one."""
    try:
        return settled_name(media_id)
    except InvalidMessage:
        return "media"


def spelled(path: str | os.PathLike[str]) -> str:
    """Return a path as its user wrote it: `pathlib` forgets a slash at the end."""
    text: object = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidMessage("path", f"must be text or a pathlib.Path, not {type(path).__name__}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidMessage("path", "is not valid Unicode") from None
    if not text or "\0" in text:
        raise InvalidMessage("path", "is empty, or holds a NUL; give a file's or a folder's path")
    return text


def place_for(text: str) -> tuple[Path, bool]:
    """Return where to write, and whether that is a folder; for worker threads."""
    path = Path(text)
    if path.is_dir():
        return path, True
    # What ends in a slash or a dot can't be meant as a file's name.
    folder = path if re.split(r"[/\\]" if os.altsep else "/", text)[-1] in ("", ".", "..") else path.parent
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist; make that folder first"
        raise InvalidMessage("path", f"{str(folder)!r} {problem}")
    return path, False


class Part:
    """A file that isn't whole yet, beside its place; for worker threads.

    Attributes:
        place: where it is until then.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._file: FileIO | None = None

    def open(self) -> None:
        """Make the file; a cancellation after that finds it here."""
        try:
            self._file = FileIO(self.place, "xb")
        except OSError as error:
            error.filename = str(self.place.parent)  # not a name that nobody has heard of
            raise

    def write(self, piece: bytes) -> None:
        """Write all of a piece: an unbuffered file may take less at a time."""
        assert self._file is not None
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]

    def become(self, path: Path) -> Path:
        """Take the place of the file at `path`, at once and whole."""
        self._close()
        os.replace(self.place, path)  # noqa: PTH105  # said beside os.link
        return path

    def settle_in(self, folder: Path, name: str) -> Path:
        """Take the server's name, or that name with a number: no file is ever overwritten."""
        self._close()
        stem, dot, suffix = name.rpartition(".")
        number, free = 1, name
        while True:
            try:
                return self._link(folder / free)
            except FileExistsError:
                number += 1
                free = f"{stem} ({number}){dot}{suffix}" if dot else f"{name} ({number})"

    def _link(self, target: Path) -> Path:
        try:
            os.link(self.place, target)  # unlike a rename, it refuses a name that is taken
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links (FAT, some network shares): take the name, then its place.
            target.open("xb").close()
            os.replace(self.place, target)  # noqa: PTH105  # said beside os.link
        return target

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Leave nothing behind."""
        self._close()
        self.place.unlink(missing_ok=True)
