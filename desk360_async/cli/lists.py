"""`desk360 send list`: a template to everybody in a CSV file."""

from pathlib import Path
from typing import Annotated, Literal

import anyio
from attrs import evolve, frozen
from cyclopts import Parameter

from desk360_async import ConfigurationError, InvalidMessage, Lane

from ._fanning import Dispatch
from ._options import DEFAULTS, Common, id_or_name
from ._progress import Meter, duration
from ._results import Writer
from ._rows import Letter, Recipients
from ._session import Session, confirm, run

__all__ = ["Mailing", "send_list"]

# Up to so many go out in the interactive lane, at once; the bulk lane spreads them, a second each.
_SHORT = 30


def send_list(
    file: Path,
    /,
    *,
    template: str,
    language: str,
    map: tuple[str, ...] = (),  # noqa: A002  # the option's name
    phone_column: str | None = None,
    attachment: Path | None = None,
    out: Path | None = None,
    lane: Literal["bulk", "interactive"] | None = None,
    repeats: bool = False,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"))] = False,
    common: Common = DEFAULTS,
) -> int:
    """Send a template to everybody in a CSV file.

    The file has a header row, is separated by ',' ';' or tab, and is in UTF-8. Every row gets a result:
    accepted, not_sent with the reason, or unknown. Rows that can't be sent to are reported and skipped.
    A column that is named like one of the template's variables ("body-1") fills it.

    Args:
        file: The list.
        template: The template's id or name; name:75 for a name of digits.
        language: The language's id or label.
        map: VARIABLE=COLUMN, such as body-1=name; may be repeated.
        phone_column: The phone's column [else: phone, to, mobile or telephone].
        attachment: The file for a media header.
        out: Write the results to this new CSV file.
        lane: "interactive" sends at once, "bulk" stands back and spreads [else: interactive up to 30].
        repeats: Send again to a phone that comes again.
        yes: Send live without asking for the number of recipients.
        common: Shared.
    """
    if common.live and out is None and not common.json:
        raise ConfigurationError("a live send needs a place for its results: add --out results.csv")
    chosen = Letter(id_or_name(template), id_or_name(language), columns_of(map), attachment, repeats)
    return run(common, Mailing(file, chosen, phone_column, out, lane, yes).send)


def columns_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return variable → column.

    Raises:
        ConfigurationError: for a pair that is none.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        variable, equals, column = pair.partition("=")
        if not (variable and equals and column):
            raise ConfigurationError(f"--map {pair}: must be VARIABLE=COLUMN, such as body-1=name")
        columns[variable.strip()] = column.strip()
    return columns


@frozen
class Mailing:
    """A list, what everybody on it gets, and how.

    Attributes:
        file: the list.
        letter: what everybody gets.
        phone_column: the phone's column, or None to find it.
        out: where the results go, or None.
        lane: "interactive", "bulk", or None to choose by the list's length.
        sure: whether nobody is to be asked.
    """

    file: Path
    letter: Letter
    phone_column: str | None = None
    out: Path | None = None
    lane: Lane | None = None
    sure: bool = False

    async def send(self, session: Session) -> int:
        """Send it, and return the exit code.

        Raises:
            Desk360Error: as `deliver` does.
            OSError: as `deliver` does.
        """
        dispatch = await self.deliver(session)
        return dispatch.tally.exit_code() or (130 if dispatch.interrupted else 0)

    async def deliver(self, session: Session) -> Dispatch:
        """Check everything that can be checked, ask, send, and say what became of it.

        Raises:
            ConfigurationError: if the file or the settings don't fit the template.
            Desk360Error: if the templates can't be had.
            OSError: if a result can't be written.
        """
        recipients = Recipients.open(self.file, self.phone_column)
        letter = await self._filled(session, recipients)
        sendable, lane = self._surveyed(session, recipients, letter)
        confirm(session, sendable, sure=self.sure)
        began = anyio.current_time()
        with Writer(self.out) as writer, Meter(session.terminal, sendable) as meter:
            dispatch = Dispatch(session.client, session.terminal, writer, meter)
            await dispatch.send(recipients, evolve(letter), lane)
        self._sum_up(session, dispatch, anyio.current_time() - began)
        return dispatch

    async def _filled(self, session: Session, recipients: Recipients) -> Letter:
        """Check the template once, before the first send, instead of failing on every row."""
        template = await session.client.templates.get(self.letter.template)
        translation = template.translation(self.letter.language)
        own = {column: column for column in recipients.columns if column in translation.variables}
        columns = own | self.letter.columns
        for variable, column in columns.items():
            if column not in recipients.columns:
                there_is = ", ".join(recipients.columns)
                raise ConfigurationError(
                    f"--map {variable}={column}: {self.file} has no column {column!r}; it has {there_is}"
                )
        if missing := [variable for variable in translation.variables if variable not in columns]:
            raise ConfigurationError(
                f"{template.name} takes {', '.join(translation.variables)}: "
                + " ".join(f"add --map {variable}=COLUMN" for variable in missing)
            )
        return evolve(self.letter, columns=columns)

    def _surveyed(self, session: Session, recipients: Recipients, letter: Letter) -> tuple[int, Lane]:
        """Count those that can be sent to: the bar's end, and what the user is asked to type."""
        check, rows, sendable = evolve(letter), 0, 0
        for row in recipients:
            rows += 1
            try:
                check(row)
            except InvalidMessage:
                continue  # said when its turn comes
            sendable += 1
        lane: Lane = "interactive" if sendable <= _SHORT else "bulk"
        lane = self.lane or lane
        session.terminal.remark(f"{self.file.name}: {rows:,} rows, {sendable:,} to send to, lane {lane}")
        return sendable, lane

    def _sum_up(self, session: Session, dispatch: Dispatch, seconds: float) -> None:
        terminal, tally = session.terminal, dispatch.tally
        if not (terminal.json and terminal.quiet):
            terminal.say(
                f"{tally.total:,} rows in {duration(seconds)}: {tally.accepted:,} accepted, "
                f"{tally.not_sent:,} not sent, {tally.unknown:,} unknown",
                "bold",
            )
            for (outcome, reason), count in tally.counts.most_common(20):
                lines = ", ".join(f"{line:,}" for line in tally.lines[outcome, reason])
                more = ", …" if count > len(tally.lines[outcome, reason]) else ""
                word = outcome.replace("_", " ")
                terminal.item(f"  {count:>6,} ", f"{word}: {reason} (line {lines}{more})")
        if tally.unknown:
            terminal.note(
                "The unknown ones may have gone out: look in Desk360's panel before you send them again."
            )
        if dispatch.stopped:
            terminal.note(f"Stopped early: {dispatch.stopped}", "red")
        if self.out is not None:
            terminal.remark(f"Results: {self.out}")
