"""The options that several commands share, and the functions that read their values."""

import os
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from attrs import frozen
from cyclopts import Parameter

from desk360_async import ConfigurationError
from desk360_async._postgres import is_dsn

if TYPE_CHECKING:
    from desk360_async.campaigns import Hours
    from desk360_async.once import SendLog

__all__ = [
    "DEFAULTS",
    "ONCE",
    "Once",
    "send_log_at",
    "READING",
    "Common",
    "Reading",
    "cant_listen",
    "customers_place",
    "ledger_place",
    "check_port",
    "columns_of",
    "id_or_name",
]

_Hidden = Annotated[str | None, Parameter(show=False)]


@Parameter(name="*", group="Shared options")
@frozen(kw_only=True)
class Common:
    """The shared options.

    Attributes:
        live: Send to Desk360 itself. Without --live, requests go to a sandbox on this machine.
        integration: The integration's id [env: DESK360_INTEGRATION_ID; on the sandbox: 11].
        base_url: The server's URL; without --live, of a sandbox on this machine [env: DESK360_BASE_URL].
        key_file: A file that holds the API key [default: env DESK360_API_KEY].
        seed_file: A JSON file with the sandbox's integrations and templates.
        timeout: Seconds that one attempt may take [default: 30].
        limiter: A file by which programs share the rate limit, or off [default: see `desk360 limits --path`].
        customers: The file or PostgreSQL DSN of customers' windows and opt-outs [env: DESK360_CUSTOMERS].
        json: Print JSON: one object, or one line for each result. Other text goes to stderr.
        quiet: Print only the result.
        verbose: Log every request to stderr, without the key and whole phone numbers.
    """

    live: bool = False
    integration: int | None = None
    base_url: str | None = None
    key_file: Path | None = None
    seed_file: Path | None = None
    timeout: float = 30.0
    limiter: str | None = None
    customers: str | None = None
    json: bool = False
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"))] = False


DEFAULTS = Common()


@Parameter(name="*", group="Send once")
@frozen(kw_only=True)
class Once:
    """The key under which a message is sent once.

    Attributes:
        key: A name for this send, such as order-4711-shipped. A repeated command sends no second message.
        log: The send log that stores the keys: a file, or a PostgreSQL DSN [env: DESK360_SEND_LOG].
    """

    key: str | None = None
    log: str | None = None

    def open(self) -> "SendLog | None":
        """Return the send log; None without a key.

        Raises:
            ConfigurationError: if there is a key, and neither `--log` nor DESK360_SEND_LOG is set.
        """
        return None if self.key is None else send_log_at(self.log)


ONCE = Once()


def send_log_at(place: str | None, *, may_make: bool = True) -> "SendLog":
    """Return the send log of the option `--log`, else of DESK360_SEND_LOG.

    Args:
        place: the option's file or DSN, or None.
        may_make: whether a missing file is made. Commands that only read refuse it: it may be a typing error.

    Raises:
        ConfigurationError: if neither is set, or the file is missing and may not be made.
    """
    from desk360_async.once import SendLog

    given = place or os.environ.get("DESK360_SEND_LOG", "").strip()
    if not given:
        raise ConfigurationError("no send log: add --log PATH, or set DESK360_SEND_LOG")
    if not may_make and not is_dsn(given) and not Path(given).is_file():
        raise ConfigurationError(f"{given}: there is no such file; the first send with --key makes it")
    return SendLog(given)


def customers_place(common: Common) -> str | None:
    """Return the customers' file or DSN: the option, else DESK360_CUSTOMERS; None if neither is set."""
    return common.customers or os.environ.get("DESK360_CUSTOMERS", "").strip() or None


def ledger_place(name: str, given: str | None) -> str:
    """Return the file or DSN of a campaign's ledger: the option, else DESK360_LEDGER, else `NAME.db`.

    Args:
        name: the campaign's name.
        given: the option `--ledger`, or None.
    """
    return given or os.environ.get("DESK360_LEDGER", "").strip() or f"{name}.db"


@Parameter(name="*", group="The list")
@frozen(kw_only=True)
class Reading:
    """The options for reading a list.

    Attributes:
        map: VARIABLE=COLUMN, such as body-1=name, or phone=COLUMN; may be repeated.
        region: The country of phone numbers without +, such as TR.
        encoding: The encoding of a CSV file that is neither UTF-8 nor UTF-16, such as cp1254.
        sheet: The sheet of a spreadsheet, by its name or its number from 1 [default: the first].
        clean: Replace line breaks, tabs and runs of spaces in variables by one space.
        phone_column: The former name of --map phone=COLUMN.
        default_region: The former name of --region.
    """

    map: tuple[str, ...] = ()
    region: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    clean: bool = False
    phone_column: _Hidden = None
    default_region: _Hidden = None

    @property
    def former(self) -> tuple[str, ...]:
        """A sentence for each option that the user gave under its former name."""
        said: list[str] = []
        if self.phone_column is not None:
            said.append(f"--phone-column is now --map {shlex.quote(f'phone={self.phone_column}')}")
        if self.default_region is not None:
            said.append(f"--default-region is now --region {self.default_region}")
        return tuple(said)

    @property
    def columns(self) -> dict[str, str]:
        """The columns: variable, or "phone" → column.

        Raises:
            ConfigurationError: if a `--map` has no `=`, or an empty side.
        """
        former = {} if self.phone_column is None else {"phone": self.phone_column}
        return former | columns_of(self.map)

    @property
    def place(self) -> str | None:
        """The region, or None."""
        return self.default_region if self.region is None else self.region

    @property
    def page(self) -> str | int | None:
        """The sheet's name, or its number from 1; None for the first sheet."""
        return int(self.sheet) if self.sheet is not None and self.sheet.isdecimal() else self.sheet


READING = Reading()


@Parameter(name="*", group="Sending hours")
@frozen(kw_only=True)
class Schedule:
    """The hours in which messages are sent; without these options, all hours.

    Attributes:
        hours: The hours in which to send, such as 09:00-20:00 or 09:00-12:00,14:00-20:00.
        days: The days on which to send, such as mon-sat or mon,wed,fri [default: every day].
        zone: The time zone of the hours, such as Europe/Istanbul.
    """

    hours: str | None = None
    days: str | None = None
    zone: str | None = None

    @property
    def opening(self) -> "Hours | None":
        """The hours; None for all hours.

        Raises:
            ConfigurationError: if a value can't be read, or `--zone` is missing.
        """
        if self.hours is None and self.days is None and self.zone is None:
            return None
        if self.zone is None:
            raise ConfigurationError("--hours and --days need --zone, such as --zone Europe/Istanbul")
        from desk360_async.campaigns import Hours

        return Hours(self.hours or "00:00-24:00", zone=self.zone, days=self.days or "mon-sun")


SCHEDULE = Schedule()


def columns_of(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the pairs VARIABLE=COLUMN as variable → column.

    Raises:
        ConfigurationError: if a pair has no `=`, or an empty side.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        variable, equals, column = pair.partition("=")
        if not (variable and equals and column):
            raise ConfigurationError(f"--map {pair}: must be VARIABLE=COLUMN, such as body-1=name")
        columns[variable.strip()] = column.strip()
    return columns


def check_port(port: int) -> None:
    """Refuse a number that isn't a TCP port.

    Raises:
        ConfigurationError: if it is outside 0 to 65535.
    """
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"--port {port}: a port is 0 to 65535; 0 takes a free one")


def cant_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    """Return the error for an address on which no server can listen, with the system's reason."""
    # The numbers of a resolver's errors are no errnos. In other errors asyncio adds the address to the text.
    resolver = isinstance(error, socket.gaierror)
    words = error.strerror if resolver else os.strerror(error.errno or 0)
    return ConfigurationError(f"--host {host} --port {port}: {words}")


def id_or_name(word: str) -> int | str:
    """Return an id (int) for digits, else a name (str); `name:75` is the name "75".

    Args:
        word: the word as the user typed it.
    """
    if word.startswith("name:"):
        return word.removeprefix("name:")
    return int(word) if word.isascii() and word.isdigit() else word
