"""A process's mark beside a shared file: other processes see that it has ended, also after `kill -9`.

A mark is a file `PATH-alive-NAME` with an exclusive lock (flock, on Windows msvcrt). The lock ends with the
process. A mark without a lock is one that a dead process left; the next process that meets it removes it.
A stopped process (SIGSTOP) keeps its lock: a lease with a time covers that case, not this module.
"""

import os
import secrets
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO


class Presence:
    """This process's mark beside a file; taken at the first use, by each process anew.

    Args:
        path: the shared file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._name = ""
        _present.add(self)

    @property
    def name(self) -> str:
        """This process's name, to be stored with its claims; the mark stands while the process lives."""
        if self._file is None:
            self._name = secrets.token_hex(8)
            self._file = self._place(self._name).open("xb")
            self._place(self._name).chmod(0o600)
            lock(self._file)
        return self._name

    def has_ended(self, name: str) -> bool:
        """Return whether the process of that name has ended; a mark that is left over is removed.

        Args:
            name: another process's name, or this one's.
        """
        if name == self._name and self._file is not None:
            return False
        place = self._place(name)
        try:
            with place.open("r+b") as file:
                if not lock(file):
                    return False
        except FileNotFoundError:
            return True
        except OSError:
            return False  # unreadable here: the lease decides
        with suppress(OSError):
            place.unlink()
        return True

    def leave(self) -> None:
        """Remove the mark; safe to repeat."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                self._place(self._name).unlink()
            file.close()

    def _place(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}-alive-{name}")

    def _forget(self) -> None:
        """In a forked child: the mark is the parent's, and its lock stays while any copy is open."""
        file, self._file, self._name = self._file, None, ""
        if file is not None:
            file.close()


def lock(file: IO[bytes]) -> bool:
    """Take an exclusive lock that ends with the process; return whether it was free.

    Args:
        file: an open file; the lock also ends when it is closed.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


_present: "weakref.WeakSet[Presence]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for presence in list(_present):
        presence._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
