"""The table of commands: one line each, one module each; whoever adds a command adds a line and a module.

A module is loaded when its command is run or its help is asked for. Here is also the overview, which is
printed without loading any of them.
"""

from typing import NamedTuple

from desk360_async._version import __version__

__all__ = ["COMMANDS", "EXIT_CODES", "Command", "overview"]


class Command(NamedTuple):
    """A command, or a group of them.

    Attributes:
        target: `module:name` of a function or a `cyclopts.App`.
    """

    name: str
    target: str
    summary: str


COMMANDS = (
    Command("demo", "demo:demo", "Send a made-up list and a campaign to a sandbox; all on this machine."),
    Command("send", "send:app", "Send a text, template, file, location …, or a template to a whole list."),
    Command("campaign", "campaign:app", "Send a template to a long list: planned, durable, resumable."),
    Command("templates", "templates:app", "List the message templates, or show one."),
    Command("integrations", "integrations:integrations", "List your WhatsApp numbers and their ids."),
    Command("read", "read:read", "Mark a customer's messages as read."),
    Command("media", "media:app", "Save a file that a customer sent."),
    Command("limits", "limits:limits", "Show what the server says of the rate limit, and what we think."),
    Command("sandbox", "sandbox:sandbox", "Run a server that behaves like Desk360's, on this machine."),
    Command("listen", "listen:listen", "Receive webhooks, show each event as it comes, and record them."),
    Command("trigger", "trigger:trigger", "Send one webhook to your web app, as Desk360 would."),
    Command("docs", "docs:docs", "Print the guide."),
)

EXIT_CODES = (
    (0, "all is well; of a send: everything was accepted"),
    (2, "a wrong word, setting or file, or a missing extra; nothing was sent"),
    (3, "something was not sent, or could not be had"),
    (4, "something has an unknown outcome: it may have gone out"),
    (130, "interrupted with Ctrl-C; 3 and 4 go before it"),
)


def overview() -> str:
    """Return the help of `desk360` itself."""
    width = max(len(command.name) for command in COMMANDS)
    commands = "\n".join(f"  {command.name:{width}}  {command.summary}" for command in COMMANDS)
    return f"""\
Usage: desk360 COMMAND [--live] [--integration ID] [--json] …     (version {__version__})

Everything goes to a sandbox on this machine, unless --live is given.

Commands:
{commands}

`desk360 COMMAND --help` shows a command's options; `desk360 --install-completion` sets up the shell.

The API key comes from the environment variable DESK360_API_KEY, or from --key-file PATH.
DESK360_INTEGRATION_ID and DESK360_BASE_URL stand for --integration and --base-url.

Exit codes:
{exit_codes()}"""


def exit_codes() -> str:
    """Return the exit codes, a line each."""
    return "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES)
