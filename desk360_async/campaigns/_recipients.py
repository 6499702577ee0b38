"""Recipients: how they are given, how their rows are judged, and the list of people who opted out.

A row is (line, phone, values). `Intake` sorts rows into staged recipients and skipped rows with a reason.
"""

import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeGuard, cast

import anyio
from attrs import define, field, frozen

from desk360_async import ConfigurationError, InvalidMessage, _threads
from desk360_async._errors import mask_phone
from desk360_async._json import decode_own
from desk360_async._phones import Reader, parse_phone, spellings_of
from desk360_async._tables import Block, Columns, Defect, Row, Table, Values
from desk360_async._validators import refused_by_whatsapp
from desk360_async.campaigns._values import CampaignError

CHUNK = 5000


@frozen
class Recipient:
    """A person to whom the campaign sends.

    Attributes:
        phone: E.164 with `+`; spaces, dashes, dots and brackets are dropped.
        parameters: variable → text, such as {"body-1": "Ada"}; recipients with equal ones share requests.
    """

    phone: str = field(repr=lambda phone: repr(mask_phone(str(phone))))
    parameters: Mapping[str, str] | None = field(default=None, repr=lambda given: f"<{len(given or ())}>")


Source = str | os.PathLike[str] | Iterable[Recipient] | AsyncIterable[Recipient]


def row_of(line: int, given: object, variables: Sequence[str]) -> Row:
    """Return a recipient as a row. A missing variable is None; a row with a surplus variable is refused.

    Raises:
        InvalidMessage: if it is no Recipient at all.
    """
    if not isinstance(given, Recipient):
        raise InvalidMessage(
            f"recipients[{line - 1}]",
            f"must be a Recipient(phone, parameters), not {type(given).__name__}",
        )
    parameters = given.parameters or {}
    values = tuple([_as_text(parameters.get(variable)) for variable in variables])
    if len(parameters) > sum(variable in parameters for variable in variables):
        surplus = ", ".join(sorted(map(_shown, set(parameters) - set(variables))))
        return line, given.phone, (*values, surplus)
    return line, given.phone, values


def _as_text(value: object) -> object:
    """Return a variable's value as a message takes it; `_NO_TEXT` in place of what can't be sent as text.

    Equal values are judged once, and True equals 1.
    """
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _NO_TEXT


def _shown(value: object) -> str:
    """Return a value as a text that can be stored."""
    return str(value).encode("utf-8", "replace").decode()


async def chunked(source: Any, variables: Sequence[str]) -> AsyncGenerator[list[Row], None]:
    """Yield an iterable's recipients as rows, by the chunk, numbered from 1.

    Raises:
        InvalidMessage: if it isn't an iterable of Recipients.
    """
    if isinstance(source, Mapping | bytes | Recipient) or not isinstance(source, Iterable | AsyncIterable):
        raise InvalidMessage(
            "recipients", "takes a CSV file's path, or an (async) iterable of Recipient; wrap one in a list"
        )
    line = 0
    if isinstance(source, AsyncIterable):
        chunk: list[Row] = []
        given: object
        async for given in cast("AsyncIterable[object]", source):
            line += 1
            chunk.append(row_of(line, given, variables))
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
        yield chunk
        return
    # Read on the loop's own thread: a caller's generator may not work in another thread.
    items = iter(cast("Iterable[object]", source))
    while chunk := [row_of(n, given, variables) for n, given in enumerate(islice(items, CHUNK), line + 1)]:
        line = chunk[-1][0]
        yield chunk


def some_of(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the next blocks, with a chunk of rows in sum or more; no row at the end."""
    rows = 0
    for block in blocks:
        yield block
        rows += len(block)
        if rows >= CHUNK:
            break


# ── judging ────────────────────────────────────────────────────────────────────────────────────────────

Skipped = tuple[int, str, str]  # line, reason, phone as given
Refused = tuple[str, str]  # variable, and why WhatsApp refuses it
# Numbers new sets of parameters, given as texts in the order of the variables.
SetsFor = Callable[[Sequence[tuple[str, ...]]], Sequence[int]]

# Sets of parameters that are kept in memory; the ledger holds them all.
REMEMBERED = 20_000
_BLOCK = 100  # rows that are judged together; if one is odd, they are judged one by one
_FIRST = 5  # lines that a warning names
_GAP = " " * 5  # a run of spaces that WhatsApp refuses
_CUT = 60  # characters of a text that stands in place of a phone
_NO_TEXT = ()  # any value that no text equals


@define
class Staged:
    """Recipients of one load, column by column, by ascending line.

    Attributes:
        lines: of the input.
        phones: as numbers.
        sets: the numbers of their sets of parameters.
    """

    lines: list[int] = field(factory=list[int])
    phones: list[int] = field(factory=list[int])
    sets: list[int] = field(factory=list[int])

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.lines, self.phones, self.sets, strict=True)


@define
class Lines:
    """The lines with the same problem: their count, and the first few.

    Attributes:
        count: the number of lines.
        first: the numbers of the first few lines.
    """

    count: int = 0
    first: list[int] = field(factory=list[int])

    def add(self, line: int) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < _FIRST:
            self.first.append(line)

    def __str__(self) -> str:
        if self.count == 1:
            return f"line {self.first[0]}"
        more = ", …" if self.count > len(self.first) else ""
        return f"{self.count:,} lines ({', '.join(map(str, self.first))}{more})"


class Intake:
    """Sorts the rows of one load into staged recipients and skipped rows.

    Args:
        variables: the template's, in its order.
        opted_out: numbers that are never written to.
        phones: reads the phones.
        clean: whether white space in variables becomes single spaces.
    """

    def __init__(
        self, variables: Sequence[str], opted_out: Container[int], phones: Reader, *, clean: bool = False
    ) -> None:
        self.variables = tuple(variables)
        self._opted_out = opted_out
        self._phones = phones
        self._clean = clean
        # Values without a problem → the number of their set.
        # Other values → this number, or the reason why the row can't be sent; and the refused values.
        self._plain: dict[Values | Defect, int] = {}
        self._plain_alone: dict[object, int] = {}  # the same, by the value, if there is one variable
        self._odd: dict[Values | Defect, tuple[int | str, tuple[Refused, ...]]] = {}
        self._doubtful = Lines()
        self._refused: dict[Refused, Lines] = {}

    def judge(self, blocks: Iterable[Block], sets_for: SetsFor) -> tuple[Staged, list[Skipped]]:
        """Return the staged recipients, and the skipped rows."""
        staged, skipped = Staged(), list[Skipped]()
        for block in blocks:
            for part in (block,) if isinstance(block, Columns) else _cut(block, len(self.variables)):
                if not (isinstance(part, Columns) and self._stage_plain(part, sets_for, staged)):
                    self._judge_each(part, sets_for, staged, skipped)
        return staged, skipped

    def _stage_plain(self, block: Columns, sets_for: SetsFor, staged: Staged) -> bool:
        """Stage a block in half the time of `_judge_each`, and return True; False if it has an odd row."""
        if not self._phones.are_plain(block.phones):
            return False
        # A plain phone is "+905…". One list of JSON is read in half the time of an int() for each phone.
        numbers: list[int] = decode_own(f"[{','.join(block.phones).replace('+', '')}]")
        if self._opted_out != frozenset() and any(map(self._opted_out.__contains__, numbers)):
            return False
        sets = self._sets_of(block, sets_for)
        if sets is None:
            return False
        staged.lines += block.lines
        staged.phones += numbers
        staged.sets += sets
        return True

    def _sets_of(self, block: Columns, sets_for: SetsFor) -> list[int] | None:
        """Return the number of each row's set; None if a row can't be sent or has a refused value."""
        is_alone = len(block.cells) == 1  # a text is found faster than a tuple with it
        known: Any = self._plain_alone if is_alone else self._plain
        given: Any = block.cells[0] if is_alone else block.values
        sets: list[Any] = [*map(known.get, given)]
        if None not in sets:
            return sets
        new = [*dict.fromkeys([value for value, number in zip(given, sets, strict=True) if number is None])]
        values: list[Values] = [*zip(new, strict=True)] if is_alone else new
        if not all(map(_are_plain, zip(*values, strict=True))):
            return self._sets_by_row(block.values, sets_for)
        numbers = dict(zip(new, self._number(values, sets_for), strict=True))
        return [
            numbers[value] if number is None else number for value, number in zip(given, sets, strict=True)
        ]

    def _sets_by_row(self, rows: Iterable[Values], sets_for: SetsFor) -> list[int] | None:
        sets: list[int] = []
        for values in rows:
            number, refused = self._look_up(values, sets_for)
            if refused or isinstance(number, str):
                return None
            sets.append(number)
        return sets

    def _number(self, new: list[Values], sets_for: SetsFor) -> Sequence[int]:
        """Number sets of texts without a problem, and remember the numbers."""
        texts = cast("list[tuple[str, ...]]", new)
        if self._clean:
            texts = [tuple([" ".join(text.split()) for text in values]) for values in texts]
        numbers = sets_for(texts)
        self._remember(new, numbers)
        return numbers

    def _remember(self, new: Sequence[Values], numbers: Sequence[int]) -> None:
        """Remember the numbers of values without a problem; forget all if there are too many."""
        if len(self._plain) + len(self._odd) >= REMEMBERED:
            self._plain.clear()
            self._plain_alone.clear()
            self._odd.clear()
        self._plain.update(zip(new, numbers, strict=True))
        if len(self.variables) == 1:
            self._plain_alone.update(zip([values[0] for values in new], numbers, strict=True))

    def _judge_each(
        self, rows: Iterable[Row], sets_for: SetsFor, staged: Staged, skipped: list[Skipped]
    ) -> None:
        slug = ""
        opted_out, is_plain = self._opted_out, self._phones.is_plain
        for line, given, values in rows:
            if isinstance(given, str) and is_plain(given):
                phone = int(given)
            else:
                phone, slug = self._second_look(line, given)
            number, refused = self._look_up(values, sets_for)
            if not phone:
                skipped.append((line, f"invalid_phone: {slug}", _shown(given)[:_CUT]))
            elif phone in opted_out:
                skipped.append((line, "opted_out", f"+{phone}"))
            elif isinstance(number, str):
                skipped.append((line, number, f"+{phone}"))
            else:
                staged.lines.append(line)
                staged.phones.append(phone)
                staged.sets.append(number)
                for problem in refused:
                    self._refused.setdefault(problem, Lines()).add(line)

    def warnings(self, table: Table | None) -> list[str]:
        """Return the warnings about the rows that were judged."""
        found = [
            f"{variable} holds {problem} in {lines}, which WhatsApp refuses. clean=True (in the terminal "
            "--clean) folds white space."
            for (variable, problem), lines in self._refused.items()
        ]
        if self._doubtful.count:
            found.append(
                f"Not valid in its country's numbering plan, but not left out: the phone in {self._doubtful}."
            )
        if table is not None and table.numbers:
            found.append(
                f"The spreadsheet holds phones as numbers, without '+' and leading zeros "
                f"(cells {', '.join(table.numbers)}): format the column as text."
            )
        return found

    def _second_look(self, line: int, given: object) -> tuple[int, str]:
        """Return the number in a phone that isn't plain, and ""; or 0 and the problem's slug.

        A number that is possible but not valid is counted for the warnings.
        """
        if isinstance(given, str) and self._phones.is_possible(given):
            self._doubtful.add(line)
            return int(given), ""
        phone, problem = self._phones.judge(given)
        if problem is not None:
            return 0, problem.slug
        if not self._phones.is_valid(phone):
            self._doubtful.add(line)
        return int(phone), ""

    def _look_up(self, values: Values | Defect, sets_for: SetsFor) -> tuple[int | str, tuple[Refused, ...]]:
        """Return the number of the values' set, or why they can't be sent; and the refused values."""
        plain = self._plain.get(values)
        if plain is not None:
            return plain, ()
        found = self._odd.get(values)
        if found is None:
            found = number, refused = self._checked(values, sets_for)
            if refused or isinstance(number, str) or isinstance(values, Defect):
                self._remember((), ())
                self._odd[values] = found
            else:
                self._remember([values], [number])
        return found

    def _checked(self, values: Values | Defect, sets_for: SetsFor) -> tuple[int | str, tuple[Refused, ...]]:
        if isinstance(values, Defect):
            return values.reason, ()
        if len(values) > len(self.variables):
            return f"unknown_parameters: {values[-1]}", ()
        texts: list[str] = []
        refused: list[Refused] = []
        for variable, value in zip(self.variables, values, strict=True):
            # The fast path first: a printable text without a long gap passes all checks below.
            if isinstance(value, str) and value.isprintable() and _GAP not in value and value.strip():
                texts.append(" ".join(value.split()) if self._clean else value)
                continue
            if self._clean and isinstance(value, str):
                value = " ".join(value.split())  # the same value, folded
            if value is None or (isinstance(value, str) and not value.strip()):
                return f"missing_parameter: {variable}", ()
            if (
                not isinstance(value, str)
                or "\0" in value
                or (not value.isprintable() and _unsendable(value))
            ):
                return f"invalid_parameter: {variable}", ()
            if problem := refused_by_whatsapp(value):
                refused.append((variable, problem))
            texts.append(value)
        return sets_for([tuple(texts)])[0], tuple(refused)


def _cut(rows: Iterable[Row], variables: int) -> Iterator[Block]:
    """Yield rows by the block, as columns where each phone is text and each row has all values."""
    left = iter(rows)
    while block := list(islice(left, _BLOCK)):
        lines, phones, values = zip(*block, strict=True)
        is_plain = (
            set(map(type, phones)) == {str}
            and Defect not in map(type, values)
            and set(map(len, values)) == {variables}
        )
        yield Columns(lines, phones, [*zip(*values, strict=True)]) if is_plain else block


def _are_plain(texts: Sequence[object]) -> bool:
    """Return whether all are printable texts without a long gap, which pass all checks of `_checked`."""
    if set(map(type, texts)) != {str}:
        return False
    joined = "|".join(cast("Sequence[str]", texts))
    return joined.isprintable() and _GAP not in joined and all(map(str.strip, cast("Sequence[str]", texts)))


def _unsendable(text: str) -> bool:
    if "\0" in text:
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# ── the opt-out list ───────────────────────────────────────────────────────────────────────────────────

_Function = Callable[[], Iterable[str] | Awaitable[Iterable[str]]]


class OptOutBook(Protocol):
    """A store of opt-outs: `desk360_async.customers.Customers`."""

    def join(self) -> None:
        """Count one more user."""
        ...

    async def leave(self) -> None:
        """Count one user less; the last one closes the store."""
        ...

    async def opt_outs(self) -> Container[int]:
        """Return the people who have opted out now."""
        ...


OptOut: TypeAlias = str | os.PathLike[str] | Iterable[str] | _Function | OptOutBook | None
"""People who get no message: a file, an iterable, a function that returns one, `Customers`, or None."""
_Stamp = tuple[int, int, int]


class OptOutList:
    """Numbers that opted out.

    Args:
        source: a file with one number a line (`#` starts a comment), an iterable, a function that returns an
            iterable, or a `Customers`. A function is called before each batch, in a worker thread. So it may
            block; it may also be async.
    """

    def __init__(self, source: OptOut) -> None:
        self.books: tuple[OptOutBook, ...] = ()
        self._path: Path | None = None
        self._function: _Function | None = None
        self._stamp: _Stamp | None = None
        self._numbers: frozenset[int] = frozenset()
        if isinstance(source, str | os.PathLike):
            self._path = Path(source)  # pyright: ignore[reportUnknownArgumentType]  # PathLike's own argument
        elif _is_book(source):
            self.books = (source,)
        elif callable(source):
            self._function = source
        elif source is not None:
            self._numbers = _numbers(cast("Iterable[str]", source), "opt_out")

    def beside(self, book: object) -> "OptOutList":
        """Return a copy that also reads a store of opt-outs, unless it is None or already in the list.

        Args:
            book: the client's customers, or None.
        """
        more = copy(self)
        if _is_book(book) and book not in self.books:
            more.books = (*self.books, book)
        return more

    @asynccontextmanager
    async def held(self) -> AsyncGenerator["OptOutList"]:
        """Keep the stores of opt-outs open in the block, and close those that no client holds."""
        for book in self.books:
            book.join()
        try:
            yield self
        finally:
            with anyio.CancelScope(shield=True):
                for book in self.books:
                    await book.leave()

    async def read(self) -> Container[int]:
        """Return the numbers as they are now.

        Raises:
            CampaignError: if the list can't be read: then no message may be sent.
        """
        try:
            own = await self._read_own()
            stored = [await book.opt_outs() for book in self.books]
        except ConfigurationError as error:
            raise CampaignError(f"the opt-out list can't be used, so no message is sent: {error}") from error
        except Exception as error:  # the list may be any function of the user's
            raise CampaignError(
                f"the opt-out list can't be read, so no message is sent: {type(error).__name__}"
            ) from error
        return _AnyOf([own, *stored]) if stored else own

    async def _read_own(self) -> frozenset[int]:
        if self._function is not None:
            found = await _threads.run(_called, self._function)
            return found if isinstance(found, frozenset) else _numbers(await found, "opt_out")
        if self._path is not None:
            return await _threads.run(self._read, self._path)
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


class _AnyOf:
    """The numbers that are in one of several containers."""

    def __init__(self, containers: Sequence[Container[int]]) -> None:
        self._containers: Sequence[Container[Any]] = containers  # `in` may ask for any object

    def __contains__(self, number: object) -> bool:
        return any(number in container for container in self._containers)


def _is_book(source: object) -> TypeGuard[OptOutBook]:
    return hasattr(source, "opt_outs")


def _called(function: _Function) -> frozenset[int] | Awaitable[Iterable[str]]:
    """Call the function and read its result; a generator may block while it is read."""
    found = function()
    return found if isinstance(found, Awaitable) else _numbers(found, "opt_out")


def _numbers(phones: Iterable[str], where: str) -> frozenset[int]:
    numbers: set[int] = set()
    for index, phone in enumerate(phones, 1):
        try:
            # All spellings: a person who opted out under one gets no message under another (ruling 19a).
            numbers.update(spellings_of(parse_phone(phone)))
        except InvalidMessage as error:
            # An error, since a skipped entry would let the campaign send to a person who opted out.
            raise ConfigurationError(f"{where}, entry {index}: {error.problem}") from None
    return frozenset(numbers)
