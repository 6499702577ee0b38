# ruff: noqa: RUF001 - a dotless i is a letter of Turkish, and meant
"""Each command against a sandbox, for people and as JSON."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desk360_async import Outcome, ServerError
from desk360_async.cli import _app
from desk360_async.cli._terminal import Terminal, harmless

from .conftest import Desk360, Server

pytestmark = pytest.mark.real
TO = "+905551112233"

SENDS: list[tuple[tuple[str, ...], str, Any]] = [
    (("text", TO, "hi 🌷"), "text", "hi 🌷"),
    (("template", TO, "welcome", "--language", "English"), "template_id", 78),
    (("template", TO, "76", "--language", "1", "--param", "body-1=Ada", "--param", "body-2=S=1"),
     "parameters", {"body-1": "Ada", "body-2": "S=1"}),
    (("location", TO, "--latitude", "-33.8", "--longitude", "151.2", "--name", "Shop", "--address", "Quay"),
     "kind", "location"),
    (("location-request", TO, "Where are you?"), "text", "Where are you?"),
    (("interactive", TO, "Well?", "--button", "y=Yes", "--button", "n=No", "--footer", "bye"),
     "kind", "interactive"),
    (("contact", TO, "--name", "Ada Lovelace", "--phone", "0555", "--email", "a@b.c", "--url", "https://b.c",
      "--company", "ACME", "--birthday", "1815-12-10"), "kind", "contacts"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "field", "expected"), SENDS)
def test_send_arrives(
    desk360: Desk360, server: Server, words: tuple[str, ...], field: str, expected: object
) -> None:
    """What was typed is what the server received."""
    run = desk360("send", *words, "--base-url", server.url)
    (message,) = server.sandbox.received
    assert (run.code, message.phone, getattr(message, field)) == (0, TO, expected)
    assert message.message_id in run.out


@pytest.mark.parametrize("words", [words for words, _, _ in SENDS])
def test_send_prints_json(desk360: Desk360, server: Server, words: tuple[str, ...]) -> None:
    """--json prints one object, and everything else goes to stderr."""
    run = desk360("send", *words, "--json", "--base-url", server.url)
    (shown,) = run.json
    assert shown["outcome"] == "accepted"
    assert shown["message_id"] == server.sandbox.received[0].message_id
    assert "Not live" in run.err


def test_media_goes_up_and_comes_down(desk360: Desk360, server: Server, tmp_path: Path) -> None:
    """A file that was sent can be saved under the id that was printed."""
    file = tmp_path / "a note.txt"
    file.write_text("hello")
    sent = desk360("send", "media", TO, file, "--json", "--base-url", server.url).json[0]
    media_id = sent["medias"]["documents"][0]["media_id"]
    target = tmp_path / "down.txt"
    run = desk360("media", "save", media_id, target, "--base-url", server.url)
    assert (run.code, target.read_text()) == (0, "hello")
    assert "(5 bytes)" in run.out


def test_media_for_people(desk360: Desk360, tmp_path: Path) -> None:
    """The ids of each file are printed."""
    file = tmp_path / "note.txt"
    file.write_text("hello")
    run = desk360("send", "media", TO, file)
    assert run.code == 0
    assert "note.txt (document)" in run.out
    assert "media   " in run.out


def test_embedded_sandbox_has_a_file(desk360: Desk360, tmp_path: Path) -> None:
    """`media save sample` can be tried without an account."""
    run = desk360("media", "save", "sample", tmp_path, "--json")
    assert run.json == [{"path": str(tmp_path / "sample.txt"), "bytes": 25}]


def test_same_template_to_several_is_one_request(desk360: Desk360, server: Server) -> None:
    """Commas between phones make a bulk send; what the server doesn't list is unknown, and masked."""
    phones = "+905551110001,+905551110002,+90500000000000"
    run = desk360("send", "template", phones, "78", "--language", "1", "--base-url", server.url)
    assert run.code == 4
    assert len(server.sandbox.received) == 2
    assert "Unknown for 1" in run.out
    assert "…0000" in run.out
    assert "+90500000000000" not in run.out


def test_contacts_from_a_file(desk360: Desk360, server: Server, tmp_path: Path) -> None:
    """A file holds cards in the vendor's shape."""
    cards = tmp_path / "cards.json"
    name = {"formatted_name": "Ada L", "first_name": "Ada", "last_name": "L"}
    cards.write_text(json.dumps([{"name": name, "phones": [{"phone": "0555"}]}]))
    assert desk360("send", "contact", TO, "--file", cards, "--base-url", server.url).code == 0
    assert server.sandbox.received[0].content[0]["name"]["formatted_name"] == "Ada L"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting"),
        ('{"nmae": {}}', "extra fields found (nmae)"),
        ('{"name": {"formatted_name": "A"}}', "first_name"),
    ],
)
def test_bad_cards_are_explained(desk360: Desk360, tmp_path: Path, content: str, problem: str) -> None:
    """A file that holds no card says where."""
    cards = tmp_path / "cards.json"
    cards.write_text(content)
    run = desk360("send", "contact", TO, "--file", cards)
    assert run.code == 2
    assert problem in run.err


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("--header-text", "Hi", "text"),
        ("--header-image", "https://x.y/a.png", "image"),
        ("--header-video", "https://x.y/a.mp4", "video"),
        ("--header-document", "https://x.y/a.pdf", "document"),
    ],
)
def test_interactive_headers(desk360: Desk360, server: Server, option: str, value: str, kind: str) -> None:
    """Each kind of header arrives as such."""
    words = ("send", "interactive", TO, "Well?", "--button", "y=Yes", option, value)
    assert desk360(*words, "--base-url", server.url).code == 0
    assert server.sandbox.received[0].content["header"]["type"] == kind


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("text", "0555", "hi"), "must start with '+'"),
        (("text", TO, "x" * 4097), "the limit is 4,096"),
        (("contact", TO), "a card needs --name"),
        (("template", TO, "1", "--language", "1", "--param", "body-1"), "--param body-1: must be like"),
        (("interactive", TO, "Well?", "--button", "yes"), "--button yes: must be like"),
        (("interactive", TO, "Well?", "--button", "y=Y", "--header-text", "a", "--header-image", "https://x.y"),
         "one header at most"),
        (("template", TO, "nope", "--language", "1"), "'nope' is unknown; there is: "),
        (("template", TO, "name:75", "--language", "1"), "'75' is unknown"),
    ],
)  # fmt: skip
def test_bad_input_costs_nothing(desk360: Desk360, words: tuple[str, ...], problem: str) -> None:
    """What is found here names the fix, and ends with 2."""
    run = desk360("send", *words)
    assert run.code == 2
    assert problem in run.err


def test_integrations(desk360: Desk360) -> None:
    """The ids are there, for people and as JSON lines."""
    assert "11  YourIntegration1  +905554443322" in desk360("integrations").out
    assert [row["id"] for row in desk360("integrations", "--json").json] == [11, 22]


def test_templates_list(desk360: Desk360) -> None:
    """Both pages are listed, with the languages that can be sent."""
    people = desk360("templates", "list").out
    assert "76  order_shipped          English (1), Türkçe (2)" in people
    assert "not sendable" in people
    assert len(desk360("templates", "list", "--json").json) == 25


@pytest.mark.parametrize("words", [("76",), ("order_shipped",), ("ORDER_SHIPPED", "--language", "English")])
def test_templates_show(desk360: Desk360, words: tuple[str, ...]) -> None:
    """By id or name, all languages or one."""
    run = desk360("templates", "show", *words)
    assert "order_shipped (76)" in run.out
    assert "variables   body-1, body-2" in run.out
    assert ("yola çıktı" in run.out) == ("--language" not in words)


def test_templates_show_tells_of_files_and_reviews(desk360: Desk360) -> None:
    """A media header, and a translation that can't be sent, are pointed out."""
    assert "a file (DOCUMENT): --attachment PATH" in desk360("templates", "show", "79").out
    assert "not active (template-messages.in-review)" in desk360("templates", "show", "75").out
    assert desk360("templates", "show", "75", "--json").json[0]["id"] == 75


def test_read(desk360: Desk360, server: Server) -> None:
    """The ids are marked."""
    run = desk360("read", TO, "gBEG1", "gBEG2", "--base-url", server.url)
    assert (run.code, run.out) == (0, "Marked as read: 2 of 2\n")
    assert server.sandbox.reads[0].message_ids == ("gBEG1", "gBEG2")
    assert desk360("read", TO, "gBEG1", "--json").json == [{"message_ids": ["gBEG1"]}]


def test_limits(desk360: Desk360) -> None:
    """Both sides' view of the limit."""
    assert "free now                    59      59" in desk360("limits").out
    (shown,) = desk360("limits", "--json").json
    assert shown["server"] == {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "59"}
    assert shown["client"]["limit"] == 60


# ── where it goes ──────────────────────────────────────────────────────────────────────────────────────


def test_first_line_says_that_it_is_not_live(desk360: Desk360) -> None:
    """Even the quiet are told."""
    run = desk360("send", "text", TO, "hi", "--quiet")
    assert run.err.splitlines() == ["Not live: requests go to a sandbox, whose minute lasts 3 s."]


def test_live_says_so_and_uses_the_key(desk360: Desk360, live: Server) -> None:
    """--live goes where the settings say."""
    run = desk360("send", "text", TO, "hi", "--live")
    assert run.code == 0
    assert run.err.startswith(f"Live: requests go to {live.url.removeprefix('http://')}")
    assert len(live.sandbox.received) == 1


def test_key_from_a_file(
    desk360: Desk360, live: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A final newline and a pasted Bearer do no harm."""
    monkeypatch.delenv("DESK360_API_KEY")
    file = tmp_path / "key"
    file.write_text(f"Bearer {live.sandbox.api_key}\n")
    assert desk360("integrations", "--live", "--key-file", file).code == 0


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_unusable_key_file(desk360: Desk360, tmp_path: Path, content: bytes | None) -> None:
    """A key file that can't be read is named."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    run = desk360("integrations", "--live", "--key-file", file)
    assert run.code == 2
    assert f"--key-file {file}: " in run.err


def test_missing_key_names_both_ways(desk360: Desk360) -> None:
    """Live without a key is refused before anything is opened."""
    run = desk360("integrations", "--live")
    assert run.code == 2
    assert "set the environment variable DESK360_API_KEY, or use --key-file PATH" in run.err


def test_sandbox_is_on_this_machine(desk360: Desk360) -> None:
    """A remote address without --live is refused."""
    run = desk360("integrations", "--base-url", "https://example.com")
    assert run.code == 2
    assert "add --live if you mean it" in run.err


def test_environment_of_the_live_server_is_ignored_without_live(
    desk360: Desk360, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real address in the environment doesn't make a dry run live."""
    monkeypatch.setenv("DESK360_BASE_URL", "https://example.com")
    assert "a sandbox, whose minute" in desk360("integrations").err


def test_account_of_ones_own(desk360: Desk360, tmp_path: Path) -> None:
    """The sandbox takes integrations and templates from a file."""
    file = tmp_path / "account.json"
    file.write_text('{"integrations": [{"id": 5, "display_name": "Mine"}]}')
    assert [row["id"] for row in desk360("integrations", "--seed-file", file, "--json").json] == [5]


def test_bad_account_is_explained(desk360: Desk360, tmp_path: Path) -> None:
    """A file that is none says why."""
    file = tmp_path / "account.json"
    file.write_text("{}")
    run = desk360("integrations", "--seed-file", file)
    assert run.code == 2
    assert "--seed-file: " in run.err


# ── how it fails ───────────────────────────────────────────────────────────────────────────────────────


def test_refusal_by_the_server_is_not_sent(desk360: Desk360, server: Server) -> None:
    """A refusal ends with 3, for people and as JSON."""
    refused = ("send", "text", "+90500000000000", "hi", "--base-url", server.url)
    run = desk360(*refused)
    assert run.code == 3
    assert "desk360: not sent: HTTP 400" in run.err
    (shown,) = desk360(*refused, "--json").json
    assert (shown["outcome"], shown["error"], shown["status"]) == ("not_sent", "ValidationFailed", 400)


def test_unknown_outcome_is_said(desk360: Desk360, monkeypatch: pytest.MonkeyPatch) -> None:
    """4, and the advice not to send it again blindly."""

    def failing() -> Any:
        def parse(*_: object, **__: object) -> int:
            raise ServerError(502, outcome=Outcome.UNKNOWN)

        return parse

    monkeypatch.setattr(_app, "app", failing)
    run = desk360("send", "text", TO, "hi")
    assert run.code == 4
    assert "unknown whether it was sent: HTTP 502" in run.err
    assert "before you send it again" in run.err


def test_failed_read_has_no_outcome(desk360: Desk360, live: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key on a read ends with 3."""
    monkeypatch.setenv("DESK360_API_KEY", "wrong-key-123")
    run = desk360("integrations", "--live")
    assert run.code == 3
    assert run.err.splitlines()[1].startswith("desk360: HTTP 401")


def test_missing_folder_is_one_line(desk360: Desk360, tmp_path: Path) -> None:
    """It names the folder and the fix."""
    run = desk360("media", "save", "sample", tmp_path / "no" / "file")
    assert run.code == 2
    assert "no' does not exist; make that folder first" in run.err
    assert "Traceback" not in run.err


@pytest.fixture
def _loggers() -> Iterator[None]:
    names = ("desk360_async", "httpx", "httpcore", "httpx2", "httpcore2")
    before = {name: (*logging.getLogger(name).handlers,) for name in names}
    yield
    for name, handlers in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_loggers")
def test_verbose_logs_hold_no_secrets(desk360: Desk360, live: Server) -> None:
    """Requests are logged; the key and the phone are not."""
    run = desk360("send", "text", TO, "hi", "--live", "--verbose")
    assert "conversations/messages" in run.err
    assert live.sandbox.api_key not in run.err
    assert TO.removeprefix("+") not in run.err


def test_strangers_can_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a template's name are shown, not obeyed."""
    Terminal().say("a\x1b[2Jb")
    Terminal().table(("Name",), [("x\x1b]0;y\x07",)])
    assert "\x1b" not in capsys.readouterr().out
    assert harmless("a\u202eb") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("name", ["NO_COLOR", "FORCE_COLOR"])
def test_no_color(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """NO_COLOR takes the colours away, even where they are forced."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv(name, "1")
    Terminal().say("hi", "green")
    assert ("\x1b[32m" in capsys.readouterr().out) == (name == "FORCE_COLOR")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("template", TO, "order_shiped", "--language", "tr"), "did you mean 'order_shipped'?"),
        (("template", TO, "order_shipped", "--language", "tr", "--param", "name=Ada"),
         "lacks body-1, body-2 and has unknown name"),
        (("media", TO, "."), ". is a folder; name its files"),
    ],
)  # fmt: skip
def test_a_likely_mistake_is_answered_with_the_fix(
    desk360: Desk360, words: tuple[str, ...], problem: str
) -> None:
    """In the words of the terminal, before a send."""
    run = desk360("send", *words)
    assert (run.code, problem in run.err) == (2, True)


@pytest.mark.parametrize("language", ["tr", "TR", "Turkish", "türkçe"])
def test_a_language_is_found_by_its_code(desk360: Desk360, server: Server, language: str) -> None:
    """Where one translation fits."""
    words = ("order_shipped", "--language", language, "--param", "body-1=Ada", "--param", "body-2=SP1")
    assert desk360("send", "template", TO, *words, "--base-url", server.url).code == 0
    assert server.sandbox.received[0].language_id == 2


def test_a_folder_with_a_slash_is_made(desk360: Desk360, tmp_path: Path) -> None:
    """The file gets its own name in it."""
    assert desk360("media", "save", "sample", f"{tmp_path}/down/").code == 0
    assert (tmp_path / "down" / "sample.txt").exists()
