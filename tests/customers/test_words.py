"""Which texts are an opt-out, in four languages, and which lists of words are usable."""

# ruff: noqa: RUF001  # letters that look alike are the subject

import pytest

from desk360_async import ConfigurationError
from desk360_async.customers import DEFAULT_OPT_IN_WORDS, DEFAULT_OPT_OUT_WORDS, Customers
from desk360_async.customers._words import wish_of, words_of
from desk360_async.webhooks import (
    LocationReceived,
    MediaReceived,
    MessageReceived,
    ReplyReceived,
    TextReceived,
)

OUT = words_of("opt_out_words", DEFAULT_OPT_OUT_WORDS)
BACK = words_of("opt_in_words", DEFAULT_OPT_IN_WORDS)

TEXTS: list[tuple[str, str | None]] = [
    # English
    ("STOP", "opt_out"), ("stop", "opt_out"), ("Stop!", "opt_out"), ("STOP.", "opt_out"),
    ("  stop \n", "opt_out"), ("«Stop»", "opt_out"), ("*STOP*", "opt_out"), ("stop 🙏", "opt_out"),
    ("ＳＴＯＰ", "opt_out"), ("Unsubscribe", "opt_out"), ("unsubscribe.", "opt_out"), ("CANCEL", "opt_out"),
    ("(cancel)", "opt_out"), ("start", "opt_in"), ("START!!", "opt_in"),
    ("stop, the man isn't here", None), ("don't stop", None), ("Stop it", None), ("stopped", None),
    ("Please cancel my order", None), ("non-stop", None), ("bus stop?", None), ("S T O P", None),
    # Turkish
    ("İPTAL", "opt_out"), ("iptal", "opt_out"), ("IPTAL", "opt_out"), ("ıptal", "opt_out"),
    ("İptal!", "opt_out"), ("i\u0307ptal", "opt_out"), ("DUR", "opt_out"), ("dur…", "opt_out"),
    ("Ret", "opt_out"), ("RET.", "opt_out"), ("ÇIK", "opt_out"), ("çık", "opt_out"), ("ÇİK", "opt_out"),
    ("C\u0327IK", "opt_out"), ("BAŞLA", "opt_in"), ("başla", "opt_in"), ("Devam.", "opt_in"),
    ("siparişimi iptal et", None), ("dur bakalım", None), ("cık", None), ("iptaller", None), ("dürüm", None),
    ("çıkış", None), ("devam ediyor mu?", None),
    # Arabic
    ("إيقاف", "opt_out"), ("إيقاف!", "opt_out"), ("ايقاف", "opt_out"), ("إيقـــاف", "opt_out"),
    ("إلغاء", "opt_out"), ("الغاء", "opt_out"), ("\u200fإلغاء\u200f", "opt_out"), ("إِلْغَاء", "opt_out"),
    ("أريد إلغاء الطلب", None), ("إيقاف السيارة", None), ("شكرا", None),
    # German
    ("STOPP", "opt_out"), ("Stopp!", "opt_out"), ("abmelden", "opt_out"), ("„Abmelden“", "opt_out"),
    ("ABMELDEN 😡", "opt_out"), ("Ich möchte mich abmelden", None), ("Stopp, das war ein Irrtum", None),
    ("Stoppuhr", None), ("Abmeldung", None),
    # neither
    ("", None), ("…", None), ("👍", None), ("stop " * 100, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wish"), TEXTS)
def test_a_text_is_an_opt_out_if_it_is_a_word(text: str, wish: str | None) -> None:
    assert wish_of(TextReceived(text=text), OUT, BACK) == wish


@pytest.mark.parametrize(
    ("event", "wish"),
    [
        (ReplyReceived(reply_id="opt_out", title="No more", text="No more"), "opt_out"),
        (ReplyReceived(reply_id="other", title="Stop", text="Stop"), "opt_out"),
        (ReplyReceived(reply_id="other", title="Yes", text="Yes"), None),
        (MediaReceived(caption="STOP"), None),
        (LocationReceived(text="STOP"), None),
        (MessageReceived(type="reaction"), None),
    ],
)
def test_a_button_counts_and_a_caption_does_not(event: MessageReceived, wish: str | None) -> None:
    assert wish_of(event, OUT, BACK) == wish


def test_given_words_replace_the_list_or_extend_it() -> None:
    assert wish_of(TextReceived(text="stop"), words_of("x", ["leave me alone"]), BACK) is None
    more = words_of("x", [*DEFAULT_OPT_OUT_WORDS, "leave me alone"])
    assert wish_of(TextReceived(text="Leave  me\nalone!"), more, BACK) == "opt_out"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"opt_out_words": "STOP"}, r"opt_out_words takes a list of words; write \['STOP'\]"),
        ({"opt_out_words": ["STOP", "!"]}, r"opt_out_words\[1\] must be a word .* got '!'"),
        ({"opt_in_words": [3]}, r"opt_in_words\[0\] must be a word"),
        ({"opt_in_words": ["Stop"]}, "'stop' is an opt-out word and an opt-in word"),
        ({"on_opt_out": 3}, "on_opt_out must be an async function"),
    ],
)
def test_unusable_arguments_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Customers(":memory:", **options)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("path", ["", 3, None])
def test_a_store_needs_a_path(path: object) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        Customers(path)  # type: ignore[arg-type]  # on purpose
