"""The table of commands, and the overview. A new command is a line here and a function in a module.

A command's module is loaded when the command runs. The overview is printed without loading any command.
"""

from typing import NamedTuple

from desk360_async import __version__

__all__ = ["COMMANDS", "EXAMPLES", "EXIT_CODES", "Command", "exit_codes", "overview", "table"]


class Command(NamedTuple):
    """A command, or a group of them.

    Attributes:
        name: the word that the user types.
        summary: its effect, short enough for a line of the overview.
        target: `module:function` of a command; "" of a group.
        commands: a group's commands.
    """

    name: str
    summary: str
    target: str = ""
    commands: tuple["Command", ...] = ()


COMMANDS = (
    Command("demo", "Try it: a made-up list and a campaign, sent to a sandbox.", "demo:demo"),
    Command("new", "Write a small app with its tests: fastapi, django or campaign.", "bundle:new"),
    Command(
        "send",
        "Send one message, or a template to a whole list.",
        commands=(
            Command("text", "Send text to a customer who wrote before.", "send:text"),
            Command("template", "Send a template to one phone, or to several.", "send:template"),
            Command("list", "Send a template to each row of a CSV file or a spreadsheet.", "lists:send_list"),
            Command("media", "Send 1 to 5 files.", "send:media"),
            Command("location", "Send a place on the map.", "send:location"),
            Command("contact", "Send a contact card, or several from a file.", "send:contact"),
            Command("interactive", "Send text with 1 to 10 buttons to press.", "send:interactive"),
            Command("location-request", "Ask for the customer's location.", "send:location_request"),
        ),
    ),
    Command(
        "campaign",
        "Send a template to a long list: planned, durable, resumable.",
        commands=(
            Command("plan", "Load a list, and show the requests and the time.", "campaign:plan"),
            Command("run", "Send to the pending recipients; it can be resumed.", "campaign:start"),
            Command("resume", "Go on after a stop, a crash or a power cut.", "campaign:start"),
            Command("status", "Show the counts, also while it runs.", "campaign:status"),
            Command("watch", "Show it in the browser while it runs.", "campaign:watch_page"),
            Command("pause", "Pause all runs of a campaign (PostgreSQL).", "campaign:pause"),
            Command("proceed", "Let paused runs go on (PostgreSQL).", "campaign:proceed"),
            Command("stop", "End all runs of a campaign (PostgreSQL).", "campaign:stop"),
            Command("report", "Show the results, and export all recipients.", "campaign:report"),
            Command("resolve", "Decide about unknown recipients.", "campaign:resolve"),
        ),
    ),
    Command(
        "templates",
        "List the message templates, or show one.",
        commands=(
            Command("list", "List them, with the languages that can be sent.", "show:list_"),
            Command("show", "Show one: its texts, and the variables to fill.", "show:show"),
        ),
    ),
    Command("integrations", "List your WhatsApp numbers and their ids.", "show:integrations"),
    Command("read", "Mark a customer's messages as read.", "show:read"),
    Command(
        "media",
        "Save a file that a customer sent.",
        commands=(Command("save", "Save a file: complete, or not at all.", "show:save"),),
    ),
    Command("doctor", "Check this machine; with --live, test how the server behaves.", "doctor:doctor"),
    Command(
        "customers",
        "Show and change who opted out.",
        commands=(
            Command("show", "Show a person's 24-hour window and opt-out.", "stores:show"),
            Command("opt-out", "Store an opt-out: no more templates for this person.", "stores:opt_out"),
            Command("opt-in", "Undo a person's opt-out.", "stores:opt_in"),
            Command("export", "Write all people to a CSV file.", "stores:export"),
        ),
    ),
    Command("forget", "Remove a person's number and texts from your stores.", "stores:forget"),
    Command("limits", "Show the rate limit, as the server and this machine count it.", "show:limits"),
    Command(
        "db",
        "Make, check or upgrade the tables in PostgreSQL.",
        commands=(
            Command("init", "Make the tables in a new database.", "workers:init"),
            Command("check", "Check that commits are durable, and the tables' version.", "workers:check"),
            Command("migrate", "Upgrade the tables to this version.", "workers:migrate"),
        ),
    ),
    Command("worker", "Run campaigns and deferred sends, together with other machines.", "workers:worker"),
    Command("sandbox", "Run a server that behaves like Desk360's, on this machine.", "serve:sandbox"),
    Command("listen", "Receive webhooks, show each as it comes, and record them.", "serve:listen"),
    Command("trigger", "Send one webhook to your web app, as Desk360 would.", "serve:trigger"),
    Command(
        "otel",
        "Print the dashboard for OpenTelemetry's metrics.",
        commands=(Command("dashboard", "Print a Grafana dashboard as JSON.", "bundle:dashboard"),),
    ),
    Command(
        "inbox",
        "List webhook events whose handlers failed, or retry them.",
        commands=(
            Command("list", "List the events whose handlers failed for good.", "stores:list_failed"),
            Command("retry", "Let failed events be handled again.", "stores:retry"),
        ),
    ),
    Command(
        "sends",
        "List sends under keys whose outcome is unknown, or decide.",
        commands=(
            Command("list", "List the sends whose outcome is unknown.", "stores:list_unknown"),
            Command("resolve", "Decide about an unknown send.", "stores:resolve"),
        ),
    ),
    Command("docs", "Show a page of the guide.", "bundle:docs"),
)

# The arguments in the example on a command's help page, by target.
EXAMPLES = {
    "demo:demo": "--count 20 --campaign 500",
    "bundle:new": "fastapi shop",
    "doctor:doctor": "--live --save facts.json",
    "send:text": "+905551112233 'Your order is ready.'",
    "send:template": "+905551112233 birthday --language English --param body-1=Ada",
    "lists:send_list": "people.csv --template welcome --language tr --out results.xlsx",
    "send:media": "+905551112233 invoice.pdf",
    "send:location": "+905551112233 --latitude 41.04 --longitude 29.02 --name Shop --address Beşiktaş",
    "send:contact": "+905551112233 --name 'Ada Lovelace' --phone +905551110000",
    "send:interactive": "+905551112233 'Shall we deliver today?' --button yes=Yes --button no=No",
    "send:location_request": "+905551112233 'Where shall we deliver?'",
    "campaign:plan": "spring people.csv --template birthday --language English --map body-1=name",
    "campaign:start": "spring --base-url http://127.0.0.1:8360",
    "campaign:status": "spring",
    "campaign:watch_page": "spring",
    "campaign:pause": "spring --reason 'wrong price' --ledger postgresql://desk360@localhost/desk360",
    "campaign:proceed": "spring --ledger postgresql://desk360@localhost/desk360",
    "campaign:stop": "spring --ledger postgresql://desk360@localhost/desk360",
    "campaign:report": "spring --out report.xlsx",
    "campaign:resolve": "spring --resend --all --state not_sent",
    "show:show": "order_shipped --language English",
    "show:integrations": "--live",
    "show:read": "+905551112233 gBEGkYiEB1VXAglK1ZEqA1YKPrU",
    "show:save": "sample downloads/",
    "stores:show": "+905551112233 --customers customers.db",
    "stores:opt_out": "+905551112233 --customers customers.db",
    "stores:opt_in": "+905551112233 --customers customers.db",
    "stores:export": "people.csv --customers customers.db",
    "stores:forget": "+905551112233 --customers customers.db",
    "show:limits": "--live",
    "serve:sandbox": "--port 8360 --limit 60 --period 3",
    "serve:listen": "--record events.jsonl",
    "serve:trigger": "text --to http://127.0.0.1:8361/SECRET --text Hello",
    "workers:check": "--ledger postgresql://desk360@localhost/desk360",
    "workers:init": "--ledger postgresql://desk360@localhost/desk360",
    "workers:migrate": "--ledger postgresql://desk360@localhost/desk360",
    "workers:worker": "--ledger postgresql://desk360@localhost/desk360 --egress office --live",
    "stores:list_failed": "inbox.db",
    "stores:retry": "inbox.db 4711",
    "stores:list_unknown": "--log sends.db",
    "stores:resolve": "order-4711-shipped --resend --log sends.db",
    "bundle:docs": "start",
}

EXIT_CODES = (
    (0, "success; for a send: all recipients were accepted"),
    (2, "a wrong argument, setting or file, or a missing extra; nothing was sent"),
    (3, "a message was not sent (yet), or another request failed"),
    (4, "a message has an unknown outcome: it may have been sent"),
    (130, "interrupted with Ctrl-C, unless 3 or 4 applies"),
)

# The exit codes of one command alone, by target.
OWN_EXIT_CODES = {
    "doctor:doctor": ((1, "without --live: a check found a problem"),),
}


def overview() -> str:
    """Return the help of `desk360` itself."""
    return f"""\
Usage: desk360 COMMAND [--live] [--integration ID] [--json] …    (version {__version__})

Without --live, all requests go to a sandbox on this machine.

Commands:
{table(COMMANDS)}

`desk360 COMMAND --help` explains a command and its options.
`desk360 --install-completion [--shell SHELL]` installs completion for a shell
(bash, zsh, fish or powershell).

The API key comes from the environment variable DESK360_API_KEY, or from
--key-file PATH. DESK360_INTEGRATION_ID and DESK360_BASE_URL are the defaults
of --integration and --base-url.

Exit codes:
{exit_codes()}"""


def table(commands: tuple[Command, ...]) -> str:
    """Return the commands' names and summaries, one command a line."""
    width = max(len(command.name) for command in commands)
    return "\n".join(f"  {command.name:{width}}  {command.summary}" for command in commands)


def exit_codes(target: str = "") -> str:
    """Return the exit codes and their meanings, one code a line.

    Args:
        target: a command's target, to add the codes that only this command has.
    """
    own = OWN_EXIT_CODES.get(target, ())
    return "\n".join(f"  {code:<4} {meaning}" for code, meaning in sorted((*EXIT_CODES, *own)))
