"""Opt-out words: a message opts out if the whole message is one of the words.

Pure functions. "STOP!" is an opt-out, and "stop, the man isn't here" is not.
"""

import unicodedata
from collections.abc import Iterable
from typing import Literal, TypeAlias

from desk360_async import ConfigurationError
from desk360_async.webhooks import MessageReceived, ReplyReceived, TextReceived

Wish: TypeAlias = Literal["opt_out", "opt_in"]

DEFAULT_OPT_OUT_WORDS: tuple[str, ...] = (
    *("STOP", "UNSUBSCRIBE", "CANCEL"),
    *("İPTAL", "DUR", "RET", "ÇIK"),
    *("STOPP", "ABMELDEN"),
    *("إيقاف", "إلغاء"),
)
"""Words that opt out, in English, Turkish, German and Arabic."""
DEFAULT_OPT_IN_WORDS: tuple[str, ...] = ("START", "BAŞLA", "DEVAM")
"""Words that undo an opt-out."""
OPT_OUT_BUTTON = "opt_out"
"""The id of a button that opts out, whatever its title is."""

# Turkish has two letters i. Capitals and small letters of both are one letter here, since a phone's
# keyboard decides which one a customer types.
_TURKISH = str.maketrans({"İ": "i", "I": "i", "\u0131": "i"})
_DOT = "\u0307"  # of a small i with its dot apart
# Arabic: vowel marks and the hamza of alef are often left out, and a tatweel only stretches a word.
_ARABIC_MARKS = {*map(chr, range(0x0610, 0x061B)), *map(chr, range(0x064B, 0x0660)), "\u0670", "\u0640"}
_VARIATION = "\ufe0e\ufe0f"  # they choose an emoji's colours
_LONGEST = 200  # characters of a message that may be a word


def fold(text: str) -> str:
    """Return a text without case, surrounding punctuation, emoji and blanks, as words are compared.

    Args:
        text: a customer's message, or a word of a list.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_TURKISH)).casefold()
    bare = "".join(c for c in unicodedata.normalize("NFD", plain) if c != _DOT and c not in _ARABIC_MARKS)
    composed = unicodedata.normalize("NFC", bare)
    first = next((n for n, c in enumerate(composed) if not _is_around(c)), len(composed))
    last = next((n for n in range(len(composed), first, -1) if not _is_around(composed[n - 1])), first)
    return " ".join(composed[first:last].split())


def _is_around(character: str) -> bool:
    return unicodedata.category(character)[0] in "PSZC" or character in _VARIATION


def words_of(name: str, words: Iterable[str]) -> frozenset[str]:
    """Return a list of words, folded.

    Args:
        name: the argument's name, for the error.
        words: the words.

    Raises:
        ConfigurationError: if it is a lone text, or an entry holds no letter or digit.
    """
    if isinstance(words, str):
        raise ConfigurationError(f"{name} takes a list of words; write [{words!r}]")
    folded: set[str] = set()
    for number, word in enumerate(words):
        if not isinstance(word, str) or not fold(word):
            raise ConfigurationError(f"{name}[{number}] must be a word with a letter or digit, got {word!r}")
        folded.add(fold(word))
    return frozenset(folded)


def wish_of(event: MessageReceived, out: frozenset[str], back: frozenset[str]) -> Wish | None:
    """Return the wish that a message expresses, or None.

    Texts and pressed buttons count. A caption or a location's description is no wish.

    Args:
        event: the message.
        out: the folded opt-out words; they win over `back`.
        back: the folded opt-in words.
    """
    if isinstance(event, ReplyReceived) and event.reply_id == OPT_OUT_BUTTON:
        return "opt_out"
    if not isinstance(event, TextReceived | ReplyReceived) or not event.text or len(event.text) > _LONGEST:
        return None
    word = fold(event.text)
    if word in out:
        return "opt_out"
    return "opt_in" if word in back else None
