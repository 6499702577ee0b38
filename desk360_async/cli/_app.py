"""The parser of the commands. An error becomes a line on stderr and an exit code."""

import logging
import re
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from desk360_async import APIError, ConfigurationError, Desk360Error, InvalidMessage, Outcome, __version__

from ._table import COMMANDS, EXAMPLES, Command, exit_codes
from ._terminal import Terminal

__all__ = ["app", "describe", "exit_code", "run"]

# Usage lines by target; without a line here the parser writes ARGS for these words.
_USAGE = {"bundle:docs": "Usage: desk360 docs [PAGE]"}
_REGION = re.compile("; for local numbers name their region: .*")  # only some commands have --region


def app() -> App:
    """Build the parser. It loads a command's module when the command or its help is asked for."""
    made = App(
        name="desk360",
        help="Desk360's WhatsApp Business API in the terminal.",
        help_epilogue=f"Exit codes:\n{exit_codes()}",
        help_format="plaintext",
        version=__version__,
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(negative=(), show_default=False),
    )
    # cyclopts leaves its keywords untyped
    made.register_install_completion_command()  # pyright: ignore[reportUnknownMemberType]
    for command in COMMANDS:
        _add(made, command, f"desk360 {command.name}")
    return made


def _add(parent: App, command: Command, words: str) -> None:
    if command.target:
        parent.command(
            f"{__package__}.{command.target}",
            name=command.name,
            help=command.summary,
            help_epilogue=_epilogue(words, command),
            usage=_USAGE.get(command.target),
        )
        return
    group = App(name=command.name, help=command.summary, help_epilogue=_epilogue(words, command))
    for inner in command.commands:
        _add(group, inner, f"{words} {inner.name}")
    parent.command(group)


def _epilogue(words: str, command: Command) -> str:
    """Return the end of a help page: an example and the exit codes; a group shows its first command."""
    shown = command
    if command.commands:
        shown = command.commands[0]
        words = f"{words} {shown.name}"
    example = f"  {words} {EXAMPLES.get(shown.target, '')}".rstrip()
    return f"Example:\n{example}\n\nExit codes:\n{exit_codes(shown.target)}"


def run(words: Sequence[str]) -> int:
    """Parse the words, run the command, and return its exit code."""
    terminal = Terminal(json="--json" in words)
    # The pool logs each try to connect, and Python prints the lines of a logger without a handler. The
    # reason is in our own errors.
    pool = logging.getLogger("psycopg.pool")
    if not pool.handlers:
        pool.addHandler(logging.NullHandler())
    try:
        code = app()(words, exit_on_error=False, print_error=False, result_action="return_value")
    except SystemExit:
        if words[0] != "--install-completion":
            raise
        terminal.note("For example: desk360 --install-completion --shell bash")
        return 2
    except CycloptsError as error:
        code = fail(ConfigurationError(_problem(error)), terminal)
        terminal.note(" ".join(["See: desk360", *(error.command_chain or ()), "--help"]))
        return code
    except InvalidMessage as error:
        takes_region = words[0] == "send" or [*words[:2]] == ["campaign", "plan"]
        problem = error.problem if takes_region else _REGION.sub("", error.problem)
        return fail(InvalidMessage(error.field, problem), terminal)
    except Desk360Error as error:
        return fail(error, terminal)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        problem = f"{error.filename or 'input or output'}: {error.strerror or error}"
        if terminal.json:
            terminal.data({"outcome": None, "error": type(error).__name__, "reason": problem})
        else:
            terminal.note(f"desk360: {problem}", "red")
        return 3
    return code if isinstance(code, int) else 0


def _problem(error: CycloptsError) -> str:
    """Return the parser's message; for surplus words, a message with the fix instead."""
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        return f"too many words: {words}; write a text with spaces in quotes, such as 'Your order is ready.'"
    return str(error)


def fail(error: Desk360Error, terminal: Terminal) -> int:
    """Print an error, and return its exit code."""
    if isinstance(error, ConfigurationError) and "integration_id=" in str(error):
        error = ConfigurationError(
            "no integration: add --integration ID, or set DESK360_INTEGRATION_ID; "
            "`desk360 integrations --live` lists the ids"
        )
    if terminal.json:
        terminal.data(describe(error))
    else:
        lead = {Outcome.NOT_SENT: "not sent: ", Outcome.UNKNOWN: "unknown whether it was sent: "}
        if isinstance(error, ConfigurationError | InvalidMessage) or error.outcome is None:
            terminal.note(f"desk360: {error}", "red")
        else:
            terminal.note(f"desk360: {lead.get(error.outcome, '')}{error}", "red")
        if error.outcome is Outcome.UNKNOWN:
            terminal.note("Look in Desk360's panel before you send it again: it may have gone out.")
    return exit_code(error)


def describe(error: Desk360Error) -> dict[str, object]:
    """Return an error's fields for `--json`: outcome, error, reason; for an APIError also status and code."""
    shown: dict[str, object] = {"outcome": error.outcome, "error": type(error).__name__, "reason": str(error)}
    if isinstance(error, APIError):
        shown |= {"status": error.status, "code": error.code}
    return shown


def exit_code(error: Desk360Error) -> int:
    """Return the exit code for an error: 2 for a mistake of the user, 4 for an unknown outcome, else 3."""
    # The class is compared by name, since an import of CampaignError would load the campaigns.
    of_a_campaign = any(kind.__name__ == "CampaignError" for kind in type(error).__mro__)
    if isinstance(error, ConfigurationError | InvalidMessage) or of_a_campaign:
        return 2
    return 4 if error.outcome is Outcome.UNKNOWN else 3
