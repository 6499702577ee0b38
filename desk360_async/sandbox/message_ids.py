"""Message ids as Desk360's: they decode to the recipient. Read off the document's samples.

`gBEGkFBXUQRnAglW0luHY8xsrFk` is URL-safe base64 of `80 11 06 905057510467 02 09 56d25b8763cc6cac59`: a mark,
the length of the number in bytes, its digits two to a byte, the length of a unique rest, the rest. Those of a
customer's messages, such as `ABEGkFBXUQRnAgo6xTEQCONO2nW9`, begin with 00 and have a byte more.
"""

import base64
import hashlib

_OUTBOUND, _INBOUND = b"\x80\x11", b"\x00\x11"


def message_id(phone: str, seed: int, number: int, *, inbound: bool = False) -> str:
    """Make the id of the `number`-th message to (or from) an E.164 phone; the same for the same seed."""
    digits = phone.removeprefix("+")
    # An odd digit is filled up with F, as telephone signalling does.
    packed = bytes.fromhex(digits + "f" * (len(digits) % 2))
    unique = hashlib.blake2b(b"%d/%d" % (seed, number), digest_size=10 if inbound else 9).digest()
    mark = _INBOUND if inbound else _OUTBOUND
    raw = mark + bytes([len(packed)]) + packed + bytes([2, len(unique)]) + unique
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def phone_of(identity: str) -> str | None:
    """Read the recipient back out of an id; None where it isn't one of these."""
    try:
        raw = base64.urlsafe_b64decode(identity + "=" * (-len(identity) % 4))
        packed = raw[3 : 3 + raw[2]]
    except (ValueError, IndexError):
        return None
    digits = packed.hex().rstrip("f")
    is_whole = raw[1:2] == b"\x11" and len(packed) == raw[2]
    return f"+{digits}" if is_whole and digits.isdecimal() else None
