"""`ReceiverStats`: what a receiver counts. Nothing is computed here."""

from attrs import define


@define
class ReceiverStats:
    """What a receiver has done since it was made, in events (but `refused`, in requests).

    Attributes:
        received: events that came in, repeats included; those refused with 503 are not in it.
        duplicates: repeats of events already taken; answered with 200, not handled again.
        handled: events whose handlers have ended, failures included.
        failed: events of which a handler failed.
        unhandled: events that no handler was registered for.
        refused: requests answered with another status than 200.
    """

    received: int = 0
    duplicates: int = 0
    handled: int = 0
    failed: int = 0
    unhandled: int = 0
    refused: int = 0
