"""The vendor's samples, word for word, as files of this package: answers, and the bodies of webhooks."""

from importlib.resources import files

__all__ = ["ANSWERS", "WEBHOOKS", "answer_sample", "webhook_sample"]

_SAMPLES = files("desk360_async.testing").joinpath("samples")


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(entry.name.removesuffix(".json") for entry in _SAMPLES.joinpath(folder).iterdir()))


ANSWERS = _names("answers")
"""The names that `answer_sample` takes."""
WEBHOOKS = _names("webhooks")
"""The names that `webhook_sample` takes."""


def answer_sample(name: str) -> bytes:
    """Return the JSON that the vendor's document shows as an endpoint's answer.

    Args:
        name: one of `ANSWERS`.

    Raises:
        ValueError: if there is no such sample; the message lists them.
    """
    return _read("answers", name, ANSWERS)


def webhook_sample(name: str) -> bytes:
    """Return a webhook's body as the vendor's document shows it ("WhatsApp Webhooks").

    The phone in it is masked (`90xxxxxxxxxx`), and the status is `delivered|read`, as in the document.

    Args:
        name: one of `WEBHOOKS`.

    Raises:
        ValueError: if there is no such sample; the message lists them.
    """
    return _read("webhooks", name, WEBHOOKS)


def _read(folder: str, name: str, names: tuple[str, ...]) -> bytes:
    if name not in names:
        raise ValueError(f"there is no sample {name!r}; there is: {', '.join(names)}")
    return _SAMPLES.joinpath(folder, f"{name}.json").read_bytes()
