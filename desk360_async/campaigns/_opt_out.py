"""The opt-out list: who is never written to. Read before each batch, since people opt out meanwhile."""

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from desk360_async import ConfigurationError, InvalidMessage, _threads
from desk360_async._phones import parse_phone
from desk360_async.campaigns._problems import CampaignError

_Function = Callable[[], Iterable[str] | Awaitable[Iterable[str]]]
OptOut = str | os.PathLike[str] | Iterable[str] | _Function | None
_Stamp = tuple[int, int, int]


class OptOutList:
    """Numbers that opted out.

    Args:
        source: a file with one number a line (`#` starts a comment), an iterable, or a function that
            returns one, read before each batch. It may block, since it runs in a worker thread, or be async.
    """

    def __init__(self, source: OptOut) -> None:
        self._path: Path | None = None
        self._function: _Function | None = None
        self._stamp: _Stamp | None = None
        self._numbers: frozenset[int] = frozenset()
        if isinstance(source, str | os.PathLike):
            self._path = Path(source)  # pyright: ignore[reportUnknownArgumentType]  # PathLike's own argument
        elif callable(source):
            self._function = source
        elif source is not None:
            self._numbers = _numbers(source, "opt_out")

    async def read(self) -> frozenset[int]:
        """Return the numbers as they are now.

        Raises:
            CampaignError: if the list can't be read: then nobody may be written to.
        """
        try:
            if self._function is not None:
                found = await _threads.run(_called, self._function)
                return found if isinstance(found, frozenset) else _numbers(await found, "opt_out")
            if self._path is not None:
                return await _threads.run(self._read, self._path)
        except ConfigurationError as error:
            raise CampaignError(
                f"the opt-out list can't be used, so nobody is written to: {error}"
            ) from error
        except Exception as error:  # the list may be any function of the user's
            raise CampaignError(
                f"the opt-out list can't be read, so nobody is written to: {type(error).__name__}"
            ) from error
        return self._numbers

    def _read(self, path: Path) -> frozenset[int]:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            bare = (line.partition("#")[0].strip() for line in lines)
            self._numbers = _numbers([line for line in bare if line], str(path))
            self._stamp = stamp
        return self._numbers


def _called(function: _Function) -> frozenset[int] | Awaitable[Iterable[str]]:
    """Call it, and read what it gives: that may block as well, if it is a generator."""
    found = function()
    return found if isinstance(found, Awaitable) else _numbers(found, "opt_out")


def _numbers(phones: Iterable[str], where: str) -> frozenset[int]:
    numbers: set[int] = set()
    for index, phone in enumerate(phones, 1):
        try:
            numbers.add(int(parse_phone(phone)))
        except InvalidMessage as error:
            # Skipping it would write to somebody who said no.
            raise ConfigurationError(f"{where}, entry {index}: {error.problem}") from None
    return frozenset(numbers)
