"""A command's session: its client and its terminal.

Requests go to a sandbox made for the command, to a sandbox that runs on this machine, or to Desk360 itself.
"""

import logging
import math
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from attrs import frozen

from desk360_async import ConfigurationError
from desk360_async._arguments import is_loopback, parse_api_key
from desk360_async._redaction import Redaction

from ._options import Common, customers_place
from ._terminal import Terminal, duration

# The client and the sandbox are slow to load, and a command's help needs neither.
if TYPE_CHECKING:
    from desk360_async import AsyncDesk360, HostLimiter, RateLimiter, SendResult
    from desk360_async.once import SendLog
    from desk360_async.sandbox import Account, Sandbox

__all__ = [
    "MINUTE",
    "SAMPLE",
    "Session",
    "account_in",
    "answer",
    "confirm",
    "confirm_number",
    "heeding_ctrl_c",
    "limiter_path",
    "live_limiter",
    "open_session",
    "run",
    "standing_client",
]

Sink = Callable[["SendResult"], None]

# A sandbox made for a command counts its rate limit in periods of this many seconds, not of 60 s. So a list
# takes seconds.
MINUTE = 3.0
# The id of the only file that such a sandbox offers for download.
SAMPLE = "sample"
_SANDBOX_KEY = "sandbox-key"
_FIRST_INTEGRATION = 11
_TRIES = 3  # answers to a confirmation
_SHARED_LIVE = "With HostLimiter and the file that `desk360 limits --path` prints, both share the limit."
_SHARED_SANDBOX = "With the same --limiter PATH, all commands share the sandbox's limit."
_AGAIN = 60.0  # seconds until an equal warning is printed again
_LOGGERS = ("desk360_async", "httpx", "httpcore", "httpx2", "httpcore2")


@frozen
class Session:
    """The client, the terminal and the options of a command.

    Attributes:
        client: the client, open.
        terminal: the terminal.
        common: the shared options.
        sandbox: the sandbox that was made for this command; None if the requests go elsewhere.
    """

    client: "AsyncDesk360"
    terminal: Terminal
    common: Common
    sandbox: "Sandbox | None" = None


def run(
    common: Common,
    work: Callable[[Session], Awaitable[int]],
    on_result: Sink | None = None,
    send_log: "SendLog | None" = None,
) -> int:
    """Open a session, do the work in it, and return its exit code.

    Args:
        common: the shared options.
        work: the command's work; it returns the exit code.
        on_result: called at the end of every send, also if Ctrl-C ends the send.
        send_log: the send log, for a send under an idempotency key; else None.
    """

    async def all_of_it() -> int:
        with heeding_ctrl_c() as deafen:
            async with open_session(common, on_result, send_log) as session:
                code = await work(session)
                deafen()  # the exit code reports the sends, so a late Ctrl-C must not replace it
            return code

    return anyio.run(all_of_it)


@asynccontextmanager
async def open_session(
    common: Common, on_result: Sink | None = None, send_log: "SendLog | None" = None
) -> AsyncGenerator[Session]:
    """Open the client that the shared options ask for, and print its server.

    Raises:
        ConfigurationError: if two options contradict each other, or a setting is missing.
    """
    terminal = Terminal(json=common.json, quiet=common.quiet)
    client_for = partial(_client, common, on_result=on_result, send_log=send_log)
    async with AsyncExitStack() as stack:
        if not common.verbose:
            stack.enter_context(_warnings(terminal, _SHARED_LIVE if common.live else _SHARED_SANDBOX))
        sandbox = None
        if common.live:
            key = parse_api_key(read_key(common.key_file))
            client = client_for(key, common.base_url, common.integration, limiter=live_limiter(common))
            terminal.note(f"Live: requests go to {_host(client)}.", "bold")
        elif url := _sandbox_url(common):
            # The limit of this sandbox is not known here. So commands share it only if the user names a file.
            limiter = None if common.limiter is None else live_limiter(common)
            client = client_for(_SANDBOX_KEY, url, common.integration or _FIRST_INTEGRATION, limiter=limiter)
            terminal.note(f"Not live: requests go to the sandbox at {url}.", "bold")
        else:
            from desk360_async import TokenBucket

            sandbox, chosen = _made(common)
            server = await stack.enter_async_context(sandbox.serve())
            bucket = TokenBucket(60, MINUTE)
            client = client_for(_SANDBOX_KEY, server.url, chosen, limiter=bucket)
            terminal.note(f"Not live: requests go to a sandbox, whose minute lasts {MINUTE:g} s.", "bold")
        yield Session(await stack.enter_async_context(client), terminal, common, sandbox)


def _host(client: "AsyncDesk360") -> str:
    return urlsplit(client.base_url).netloc


def read_key(path: Path | None) -> str | None:
    """Return the API key in a file; None if the client is to read it from DESK360_API_KEY.

    Raises:
        ConfigurationError: if neither holds a key, or the file can't be read.
    """
    if path is not None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it isn't text in UTF-8"
            raise ConfigurationError(f"--key-file {path}: {why}") from None
    if not os.environ.get("DESK360_API_KEY", "").strip():
        raise ConfigurationError(
            "no API key: set the environment variable DESK360_API_KEY, or use --key-file PATH"
        )
    return None


def limiter_path(common: Common) -> Path | None:
    """Return the file in which live commands share the limit; None for `--limiter off`.

    Without the option each server has its own file, in the user's state folder: a limit belongs to one server
    and to this machine's address.
    """
    if common.limiter == "off":
        return None
    if common.limiter is not None:
        return Path(common.limiter).absolute()
    from desk360_async._arguments import parse_base_url

    server = urlsplit(parse_base_url(common.base_url, allow_http=False)).netloc
    name = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in server)
    return state_folder() / f"limit-{name}.db"


def state_folder() -> Path:
    """Return the folder for state in this user's home: the usual one on Windows, macOS or Linux."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return folder / "desk360"


def live_limiter(common: Common) -> "HostLimiter | None":
    """Return the limiter that live commands share; None for `--limiter off`.

    Raises:
        ConfigurationError: if the state folder can't be made.
    """
    from desk360_async import HostLimiter

    path = limiter_path(common)
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"the limiter's folder {path.parent} can't be made ({error.strerror}); "
            "use --limiter PATH, or --limiter off"
        )
        raise ConfigurationError(message) from None
    return HostLimiter(path)


def _client(
    common: Common,
    key: str,
    base_url: str | None,
    integration: int | None,
    *,
    on_result: Sink | None,
    send_log: "SendLog | None",
    limiter: "RateLimiter | None" = None,
) -> "AsyncDesk360":
    from desk360_async import AsyncDesk360

    if common.verbose:
        show_logs(key)
    customers = None
    if place := customers_place(common):
        from desk360_async.customers import Customers

        customers = Customers(place)
    return AsyncDesk360(
        key,
        integration_id=integration,
        base_url=base_url,
        timeout=common.timeout,
        limiter=limiter,
        on_result=on_result,
        customers=customers,
        send_log=send_log,
    )


def standing_client(
    common: Common, terminal: Terminal, *, limiter: "RateLimiter", send_log: "SendLog"
) -> "AsyncDesk360":
    """Return a client of a server that outlives the command: Desk360 with `--live`, else a running sandbox.

    Raises:
        ConfigurationError: if there is no `--live` and no address of a sandbox, or a setting is missing.
    """
    url = None if common.live else _sandbox_url(common)
    if not common.live and url is None:
        raise ConfigurationError(
            "a worker needs a server that keeps running: run `desk360 sandbox` in another terminal and give "
            "its address (--base-url http://127.0.0.1:8360), or add --live"
        )
    key = parse_api_key(read_key(common.key_file)) if url is None else _SANDBOX_KEY
    integration = common.integration if url is None else common.integration or _FIRST_INTEGRATION
    client = _client(
        common,
        key,
        url or common.base_url,
        integration,
        on_result=None,
        send_log=send_log,
        limiter=limiter,
    )
    where = f"Live: requests go to {_host(client)}." if url is None else f"Not live: requests go to {url}."
    terminal.note(where, "bold")
    return client


def _sandbox_url(common: Common) -> str | None:
    """Return the URL of a running sandbox: --base-url, else DESK360_BASE_URL, if it is on this machine."""
    given = common.base_url
    url = os.environ.get("DESK360_BASE_URL", "") if given is None else given
    if is_loopback(urlsplit(url).hostname or ""):
        return url
    if common.base_url:
        raise ConfigurationError(
            f"--base-url {url} is not on this machine, so it is no sandbox; add --live if you mean it"
        )
    return None


def _made(common: Common) -> "tuple[Sandbox, int]":
    """Make a sandbox, and choose one of its integrations; the environment's id is one of Desk360."""
    from desk360_async.sandbox import Sandbox, StoredMedia

    sandbox = Sandbox(limit=60, period=MINUTE, account=account_in(common.seed_file))
    known = [integration["id"] for integration in sandbox.account.integrations]
    chosen = common.integration or (known[0] if known else 1)
    text = b"A file from the sandbox.\n"
    sandbox.media.put(StoredMedia(SAMPLE, chosen, "sample.txt", "text/plain", text))
    return sandbox, chosen


def account_in(path: Path | None) -> "Account | None":
    """Return the sandbox's account from a seed file; None without a file.

    Raises:
        ConfigurationError: if the file can't be read, or holds no account.
    """
    from desk360_async.sandbox import load_account

    try:
        return load_account(path) if path else None
    except OSError as error:
        raise ConfigurationError(f"--seed-file {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"--seed-file: {error}") from None


def confirm(session: Session, recipients: int, *, sure: bool) -> None:
    """Ask the user to type the number of recipients before a live send to two or more.

    Args:
        session: the session that sends.
        recipients: the number of recipients.
        sure: whether the user gave `--yes`.

    Raises:
        ConfigurationError: after three wrong answers or an empty one, or if there is no terminal.
    """
    confirm_number(session.common, session.terminal, recipients, sure=sure)


def confirm_number(common: Common, terminal: Terminal, recipients: int, *, sure: bool) -> None:
    """Ask the user to type the number of recipients, as `confirm` does, but without a session.

    Raises:
        ConfigurationError: after three wrong answers or an empty one, or if there is no terminal.
    """
    if not common.live or recipients <= 1 or sure:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"a live send to {recipients:,} recipients must be confirmed: run it in a terminal, or add --yes"
        )
    question = f"This sends to {recipients:,} people, and costs money. Type {recipients} to go on:"
    for _ in range(_TRIES):
        typed = answer(terminal, question).replace(",", "")
        if typed == str(recipients):
            return
        if not typed:
            break
        question = f"That isn't the number. Type {recipients} to go on, or press Enter to leave:"
    raise ConfigurationError("not confirmed; nothing was sent")


def answer(terminal: Terminal, question: str) -> str:
    """Ask the user a question, and return the line that is typed; "" at the end of the input.

    Raises:
        KeyboardInterrupt: if Ctrl-C was pressed before the line was read.
    """
    is_interrupted = False

    # asyncio's handler would only record a Ctrl-C. And `input` drops an exception that a handler raises while
    # `input` flushes stdout or stderr. In both cases a line that is typed afterwards would still count.
    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, handler)
    try:
        terminal.note(question)
        typed = input().strip()
    except EOFError:
        typed = ""
    finally:
        signal.signal(signal.SIGINT, before)
    if is_interrupted:
        raise KeyboardInterrupt
    return typed


@contextmanager
def heeding_ctrl_c() -> Generator[Callable[[], None]]:
    """Let Ctrl-C end the command until the yielded function is called; ignore Ctrl-C from then on.

    Call the function once a run has begun: from then on the run handles Ctrl-C. Without the call, a second
    Ctrl-C could end the command before its results are written. Ctrl-C is then ignored until the process
    ends, or until `main` restores the handler: a late Ctrl-C must not replace the exit code. On Windows a run
    doesn't handle Ctrl-C, so Ctrl-C always ends the command.
    """
    is_deaf = False

    def deafen() -> None:
        nonlocal is_deaf
        is_deaf = sys.platform != "win32"

    def handler(number: int, frame: FrameType | None) -> None:
        if not is_deaf and callable(before):
            before(number, frame)

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield deafen
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN if is_deaf else before)


class _Warnings(logging.Handler):
    """Prints the package's warnings. Warnings about the rate limit get a text for the terminal.

    Args:
        terminal: the terminal that prints them.
        sharing: a sentence on how programs share the limit.
    """

    def __init__(self, terminal: Terminal, sharing: str) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal
        self._sharing = sharing
        self._until = -math.inf
        self._last, self._last_until = "", -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record. Of several equal ones at the same time, such as refusals, print only the first."""
        event = getattr(record, "event", "")
        if event == "desk360.limit_unshared":
            self._terminal.note(f"Another program sends from this address. {self._sharing}", "yellow")
        elif event == "desk360.retry":
            self._retried(**{name: record.__dict__[name] for name in ("operation", "reason", "wait")})
        elif event != "desk360.rate_limited":
            self._printed_once(record.getMessage(), record.created)
        elif record.created >= self._until:
            wait: float | None = record.__dict__.get("retry_after")
            self._until = record.created + (wait or 1.0)
            when = "" if wait is None else f" in {duration(wait)}"
            self._terminal.note(
                "The server refused a request because of its rate limit (429): it was not sent. "
                f"Sends go on{when}.",
                "yellow",
            )

    def _printed_once(self, text: str, at: float) -> None:
        # While a database is away, each worker of a run reports each of its tries.
        if text != self._last or at >= self._last_until:
            self._terminal.note(text, "yellow")
            self._last, self._last_until = text, at + _AGAIN

    def _retried(self, operation: str, reason: str, wait: float) -> None:
        if reason != "RateLimited":  # the record of the refusal has announced this wait
            words = re.sub("(?<=[a-z])(?=[A-Z])", " ", reason).lower()
            self._terminal.note(
                f"{operation.replace('_', ' ')}: {words}; next try in {wait:.1f} s.", "yellow"
            )


@contextmanager
def _warnings(terminal: Terminal, sharing: str) -> Generator[None]:
    logger, handler = logging.getLogger("desk360_async"), _Warnings(terminal, sharing)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def show_logs(key: str) -> None:
    """Log the package and its HTTP library to stderr.

    Args:
        key: the API key, which the logs show masked.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
    # The filter is on the handler, since a logger's filter doesn't see the records of its child loggers.
    lines.addFilter(Redaction(key))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [lines]
        logger.setLevel(logging.DEBUG if name == "desk360_async" else logging.INFO)
        logger.propagate = False
