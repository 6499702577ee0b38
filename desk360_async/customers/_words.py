"""Opt-out words: a message opts out if the whole message is one of the words.

"STOP!" is an opt-out, and "stop, the man isn't here" is not. The functions are pure.
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
"""The id of a button that opts out; its title may be any text."""

# Turkish has two letters i, with and without a dot, each with its capital. Here all four are one letter,
# since a phone's keyboard decides which of them a customer types.
_TURKISH = str.maketrans({"İ": "i", "I": "i", "\u0131": "i"})
_DOT = "\u0307"  # the dot of a small i, if it is a separate character
# Arabic: vowel marks and the hamza of alef are often left out, and a tatweel only stretches a word.
_ARABIC_MARKS = {*map(chr, range(0x0610, 0x061B)), *map(chr, range(0x064B, 0x0660)), "\u0670", "\u0640"}
_VARIATION = "\ufe0e\ufe0f"  # these choose whether an emoji is coloured
_LONGEST = 200  # characters; a longer message is never compared with the words


def fold(text: str) -> str:
    """Return a text for the comparison of words: no case, and no punctuation, emoji or spaces at the ends.

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
    """Return the words of a list, each folded by `fold`.

    Args:
        name: the argument's name, for the error.
        words: the words.

    Raises:
        ConfigurationError: if `words` is a single text, or an entry has no letter or digit.
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

    Only texts and pressed buttons can express a wish; a caption or a location's description can't.

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
