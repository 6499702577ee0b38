"""Customers: their 24-hour windows and opt-outs, which decide whether a message may be sent.

Free messages arrive only within 24 hours of the customer's last message. People who opted out get no
template. `Customers` stores both facts. Clients and campaigns check them before they use a token.
"""

from desk360_async._redaction import show_half_made

from ._book import Customers, OnOptOut, Window
from ._forgetting import expire, forget
from ._store import OptOuts
from ._words import DEFAULT_OPT_IN_WORDS, DEFAULT_OPT_OUT_WORDS

show_half_made(globals())

__all__ = [
    "DEFAULT_OPT_IN_WORDS",
    "DEFAULT_OPT_OUT_WORDS",
    "Customers",
    "OnOptOut",
    "OptOuts",
    "Window",
    "expire",
    "forget",
]
