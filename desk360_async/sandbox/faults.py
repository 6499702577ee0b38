"""Faults on purpose: the requests that they hit, and the answers that they give.

All is pure, except for the random numbers.

Faults that need the connection (resets, stalls, drips, truncation) are carried out in `delivery.py`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal, TypeAlias, get_args

from attrs import Attribute, define, evolve, field

from desk360_async.sandbox.forms import is_map
from desk360_async.sandbox.records import Answer

ArrivalKind: TypeAlias = Literal["latency", "reset_before", "refused_early"]
AnswerKind: TypeAlias = Literal[
    "status", "reset_after", "stall", "drip", "truncate", "slow",
    "bad_json", "html", "wrong_type", "empty", "noise", "partial",
    "maintenance", "blank", "fail", "error", "failed_rows", "keyed_phones", "fewer_files", "surplus",
]  # fmt: skip
HeaderKind: TypeAlias = Literal["headers", "bad_link"]
FaultKind: TypeAlias = ArrivalKind | AnswerKind | HeaderKind
Stage: TypeAlias = Literal["arrival", "answer", "headers"]

_STAGES: dict[str, Stage] = {
    **dict.fromkeys(get_args(ArrivalKind), "arrival"),
    **dict.fromkeys(get_args(AnswerKind), "answer"),
    **dict.fromkeys(get_args(HeaderKind), "headers"),
}
KINDS: tuple[str, ...] = tuple(_STAGES)
# Kinds that a client must survive at any time; each other kind needs a setting or a certain endpoint.
SCATTERED: tuple[FaultKind, ...] = (
    "latency", "slow", "status", "reset_before", "reset_after", "truncate", "bad_json", "html", "empty",
)  # fmt: skip

_HTML = b"<!DOCTYPE html><html><head><title>%d</title></head><body><h1>nginx</h1></body></html>"
_MAINTENANCE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>Be back soon</body></html>"
_NOISE = b"<br />\n<b>Warning</b>:  Undefined variable $x in <b>/app/index.php</b> on line <b>3</b><br />\n"


def _known(_instance: object, _attribute: "Attribute[Any]", value: Any) -> None:
    if value not in _STAGES:
        msg = f"kind: {value!r} is none of {', '.join(KINDS)}"
        raise ValueError(msg)


def _share(_instance: object, attribute: "Attribute[float]", value: float) -> None:
    if not 0 <= value <= 1:
        msg = f"{attribute.name}: {value} is not between 0 and 1"
        raise ValueError(msg)


def _not_negative(_instance: object, attribute: "Attribute[Any]", value: float | None) -> None:
    if value is not None and value < 0:
        msg = f"{attribute.name}: {value} is negative"
        raise ValueError(msg)


@define
class Fault:
    """One thing that goes wrong, and when.

    | kind | what happens | settings |
    |---|---|---|
    | `latency` | a wait before the request is read and counted | `delay`, `jitter` |
    | `reset_before` | the connection is reset before the body is read; not counted | |
    | `status` | this status instead of the right answer | `status`, `body`, `headers`, `accepted` |
    | `slow` | a wait after the request was processed, before the answer | `delay`, `jitter` |
    | `reset_after` | processed and counted, then reset without an answer | |
    | `stall` | processed, then silence for `delay` seconds (None: for ever), then a reset | `delay` |
    | `drip` | the right answer, one byte each `delay` seconds | `delay` |
    | `truncate` | status and headers, half of the body, end of the connection | |
    | `bad_json` | the right answer with its JSON cut in the middle | |
    | `html` | a page of a proxy instead of the answer | `status` (default 200) |
    | `wrong_type` | valid JSON of another type: objects become lists and lists objects | |
    | `empty` | the right status without a body | |
    | `noise` | a PHP warning in front of the JSON | |
    | `maintenance` | a page with 200 instead of the answer; not accepted | `accepted` |
    | `blank` | an empty 200; not accepted | `accepted` |
    | `fail` | 200 with `{"status": "fail", "message": …}`; not accepted | `message`, `accepted` |
    | `error` | 200 with the documented error of a code; not accepted | `code`, `message`, `accepted` |
    | `failed_rows` | a bulk answer whose rows have a `status`, `share` of them `failed` | `share` |
    | `keyed_phones` | a bulk answer with the numbers as keys: `{"phones": {"+90…": {}}}` | |
    | `fewer_files` | a media answer that lists `share` of the files | `share` |
    | `surplus` | the right answer, and bytes of another answer behind it (over TCP only) | `body` |
    | `refused_early` | 413 before the body is read, then the end of the connection; not counted | `status` |
    | `partial` | a bulk answer that lists `share` of the phones | `share`, `accepted` (the rest too) |
    | `headers` | these headers added or replaced (None removes one) | `headers` |
    | `bad_link` | a `Link` that can't be right | `link` |

    Over TCP a reset is a real one. In process the application raises ConnectionResetError instead, and the
    client gets no byte of the answer.

    Attributes:
        kind: See the table.
        method: Only requests with this method.
        path: Only paths that fit this pattern (`*` and `?` as in a shell; a `/v1` in front doesn't matter).
        phone: Only requests with this number in a field, in the same spelling (not in a file). Not for
            `latency` and `reset_before`, which come before the body is read.
        after: Number of fitting requests that pass before the first hit.
        times: Number of requests that it hits; None for no limit.
        probability: Share of fitting requests that it strikes, from 0 to 1.
        status: HTTP status of `status` and `html`.
        body: For `status`: bytes as they are, anything else as JSON; None for the documented error shape.
        headers: Headers to add; None as a value removes one.
        accepted: Whether the request is carried out in spite of the fault (kinds with `accepted` above). For
            `partial`: whether the phones that the answer leaves out are accepted too. A `status` of 2xx
            without a `body` is always carried out; its answer is the usual one with that status.
        delay: Seconds; for `stall`, None means for ever.
        jitter: Maximum of the seconds that are added to `delay`, at random by the seed.
        share: Share of the phones that a partial answer lists, from 0 to 1; for other kinds see the table.
        link: The text of a bad `Link`.
        code: The documented code of `error`.
        message: The text of `fail` and `error`.

    Raises:
        ValueError: if the kind is unknown, a share is not between 0 and 1, or a number is negative.
    """

    kind: FaultKind = field(validator=_known)
    method: str | None = field(default=None, kw_only=True)
    path: str | None = field(default=None, kw_only=True)
    phone: str | None = field(default=None, kw_only=True)
    after: int = field(default=0, kw_only=True, validator=_not_negative)
    times: int | None = field(default=None, kw_only=True, validator=_not_negative)
    probability: float = field(default=1.0, kw_only=True, validator=_share)
    status: int | None = field(default=None, kw_only=True)
    body: Any = field(default=None, kw_only=True)
    headers: dict[str, str | None] = field(factory=dict[str, str | None], kw_only=True)
    accepted: bool = field(default=False, kw_only=True)
    delay: float | None = field(default=None, kw_only=True, validator=_not_negative)
    jitter: float = field(default=0.0, kw_only=True, validator=_not_negative)
    share: float = field(default=0.5, kw_only=True, validator=_share)
    link: str = field(default="<>; rel=next", kw_only=True)
    code: str = field(default="internal_server_error", kw_only=True)
    message: str = field(default="Insufficient balance", kw_only=True)

    @property
    def stage(self) -> Stage:
        """When it strikes; at most one fault of each stage hits a request."""
        return _STAGES[self.kind]

    def fits(self, stage: Stage, method: str, path: str, phones: frozenset[str]) -> bool:
        """Whether the fault may hit this request in this stage."""
        return (
            self.stage == stage
            and self.times != 0
            and self.method in (None, method)
            and (self.path is None or fnmatchcase(path, self.path))
            and (self.phone is None or self.phone in phones)
        )


class Faults:
    """The faults of one sandbox; if several fit a request, the first one added hits it.

    Args:
        seed: seed of all random numbers; equal seeds give equal numbers.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._dice = Random(seed)  # noqa: S311 - repeatable on purpose
        self.struck: int = 0

    def add(self, fault: Fault) -> Fault:
        """Let a fault strike from now on; return it, for `remove`."""
        self._faults.append(fault)
        return fault

    def scatter(self, rate: float, kinds: tuple[FaultKind, ...] = SCATTERED) -> None:
        """Spread faults over all requests at random: each kind hits `rate / len(kinds)` of them.

        A fault of the kinds `status` and `partial` can hide an accepted request: half of them do.

        Args:
            rate: Share of all requests that are hit, from 0 to 1.
            kinds: Which kinds.
        """
        for kind in kinds:
            fates = (True, False) if kind in ("status", "partial") else (True,)
            for accepted in fates:
                self.add(Fault(kind, probability=rate / len(kinds) / len(fates), accepted=accepted))

    def remove(self, fault: Fault) -> None:
        """Stop one fault.

        Raises:
            ValueError: if the fault isn't one of these faults.
        """
        self._faults.remove(fault)

    def preset(self, name: str) -> list[Fault]:
        """Replace all faults with a named set, which strikes from now on.

        Args:
            name: one of `PRESETS`.

        Raises:
            ValueError: if there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"preset: {name!r} is none of {', '.join(PRESETS)}")
        self.clear()
        return [self.add(evolve(fault)) for fault in PRESETS[name]]

    @property
    def seed(self) -> int:
        """The seed of the random numbers."""
        return self._seed

    def reseed(self, seed: int) -> None:
        """Restart the random numbers with another seed; the faults stay.

        Args:
            seed: seed of all random numbers.
        """
        self._seed = seed
        self._dice = Random(seed)  # noqa: S311 - repeatable on purpose

    def clear(self) -> None:
        """Stop all faults and restart the random numbers."""
        self._faults.clear()
        self._dice = Random(self._seed)  # noqa: S311 - repeatable on purpose
        self.struck = 0

    @property
    def name_phones(self) -> bool:
        """Whether any fault has a `phone`; then the phones of each request must be known."""
        return any(fault.phone for fault in self._faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults))

    def strike(
        self, stage: Stage, method: str, path: str, phones: frozenset[str] = frozenset()
    ) -> Fault | None:
        """Return the fault that hits a request in this stage, its jitter drawn; None if no fault does."""
        for fault in self._faults:
            if not fault.fits(stage, method, path, phones):
                continue
            if fault.after:
                fault.after -= 1
            elif fault.probability == 1 or self._dice.random() < fault.probability:
                return self._struck(fault)
        return None

    def _struck(self, fault: Fault) -> Fault:
        self.struck += 1
        if fault.times is not None:
            fault.times -= 1
        if fault.jitter:
            return evolve(fault, delay=(fault.delay or 0.0) + self._dice.uniform(0, fault.jitter), jitter=0.0)
        return fault


def is_processed(fault: Fault | None) -> bool:
    """Whether the request is carried out in spite of the fault."""
    if fault is not None and fault.kind in _INSTEAD:
        return fault.accepted
    if fault is None or fault.kind != "status":
        return True
    return fault.accepted or (200 <= (fault.status or 500) < 300 and fault.body is None)


def spoil(answer: Answer, fault: Fault) -> Answer:
    """Apply the fault to the right answer; connection faults leave it unchanged."""
    change = _CHANGES.get(fault.kind)
    if change is None or (
        fault.kind in _JSON_ONLY and answer.headers.get("content-type") != "application/json"
    ):
        return answer
    return change(answer, fault)


def replacement(fault: Fault) -> Answer:
    """Build the answer that a fault such as `status` gives in place of the right one."""
    status = fault.status or 500
    if instead := _INSTEAD.get(fault.kind):
        return with_headers(instead(fault), fault.headers)
    if isinstance(fault.body, bytes):
        answer = Answer(status, fault.body, {"content-type": "text/plain; charset=utf-8"})
    elif fault.body is not None:
        answer = Answer.of_json(fault.body, status)
    else:
        code = "internal_server_error" if status >= 500 else "failed_validation"
        answer = Answer.of_error(status, code, "Server Error" if status >= 500 else "Refused by a fault.")
    return with_headers(answer, fault.headers)


def with_headers(answer: Answer, headers: Mapping[str, str | None]) -> Answer:
    """Add, replace or (None) remove headers."""
    merged = {**answer.headers, **{name.lower(): value for name, value in headers.items()}}
    return evolve(answer, headers={name: value for name, value in merged.items() if value is not None})


def _status(answer: Answer, fault: Fault) -> Answer:
    if fault.body is None and 200 <= (fault.status or 500) < 300:
        return with_headers(evolve(answer, status=fault.status or 200), fault.headers)
    return replacement(fault)


def _cut(answer: Answer, _fault: Fault) -> Answer:
    return evolve(answer, body=answer.body[: max(1, len(answer.body) // 2)])


def _html(answer: Answer, fault: Fault) -> Answer:
    status = fault.status or 200
    return with_headers(evolve(answer, status=status, body=_HTML % status), {"content-type": "text/html"})


def _wrong_type(answer: Answer, _fault: Fault) -> Answer:
    value = json.loads(answer.body)
    other: Any = list(value) if is_map(value) else {"rows": len(value)}
    return evolve(answer, body=json.dumps(other).encode())


def _field(answer: Answer, name: str, default: Any) -> Any:
    """Return a field of an answer, or the default where the answer is a list, as a listing is."""
    value = json.loads(answer.body)
    return value.get(name, default) if is_map(value) else default


def _partial(answer: Answer, fault: Fault) -> Answer:
    phones = _field(answer, "phones", None)
    if not fault.accepted or phones is None:
        return answer
    return evolve(answer, body=json.dumps({"phones": phones[: round(len(phones) * fault.share)]}).encode())


def _failed_rows(answer: Answer, fault: Fault) -> Answer:
    phones = _field(answer, "phones", [])
    failed = round(len(phones) * fault.share)
    rows = [
        {"phone": phone, "status": "failed" if number < failed else "sent"}
        for number, phone in enumerate(phones)
    ]
    return evolve(answer, body=json.dumps({"phones": rows}).encode()) if phones else answer


def _keyed_phones(answer: Answer, _fault: Fault) -> Answer:
    phones = _field(answer, "phones", [])
    keyed = {phone: {"status": "sent"} for phone in phones}
    return evolve(answer, body=json.dumps({"phones": keyed}).encode()) if phones else answer


def _fewer_files(answer: Answer, fault: Fault) -> Answer:
    medias = _field(answer, "medias", {})
    rows = [(kind, row) for kind, files in medias.items() for row in files]
    listed: dict[str, list[Any]] = {}
    for kind, row in rows[: max(1, round(len(rows) * fault.share))]:
        listed.setdefault(kind, []).append(row)
    return evolve(answer, body=json.dumps({"medias": listed}).encode()) if rows else answer


# Answers with a 200 that take the place of the reply; the request is carried out only if `accepted`.
_INSTEAD: dict[str, Callable[[Fault], Answer]] = {
    "maintenance": lambda _fault: Answer(200, _MAINTENANCE, {"content-type": "text/html; charset=utf-8"}),
    "blank": lambda _fault: Answer(200, b"", {"content-type": "application/json"}),
    "fail": lambda fault: Answer.of_json({"status": "fail", "message": fault.message}),
    "error": lambda fault: Answer.of_error(200, fault.code, fault.message),
}
_JSON_ONLY = ("wrong_type", "partial", "failed_rows", "keyed_phones", "fewer_files")
_CHANGES: dict[str, Callable[[Answer, Fault], Answer]] = {
    "status": _status,
    "bad_json": _cut,
    "html": _html,
    "wrong_type": _wrong_type,
    "empty": lambda answer, _fault: evolve(answer, body=b""),
    "noise": lambda answer, _fault: evolve(answer, body=_NOISE + answer.body),
    "partial": _partial,
    "failed_rows": _failed_rows,
    "keyed_phones": _keyed_phones,
    "fewer_files": _fewer_files,
    **{kind: lambda _answer, fault: replacement(fault) for kind in _INSTEAD},
    "headers": lambda answer, fault: with_headers(answer, fault.headers),
    "bad_link": lambda answer, fault: with_headers(answer, {"link": fault.link}),
}

PRESETS: dict[str, tuple[Fault, ...]] = {
    "slow": (Fault("slow", delay=1.0, jitter=2.0),),
    "flaky": (
        Fault("status", probability=0.03), Fault("reset_before", probability=0.03),
        Fault("reset_after", probability=0.03), Fault("slow", probability=0.03),
    ),
    "down": (Fault("status", status=503),),
    "maintenance": (Fault("maintenance"),),
    "no_credit": (Fault("fail"),),
    "half_bulk": (Fault("failed_rows", share=0.5),),
    "silent": (Fault("stall", delay=30.0),),
    "garbage": (
        Fault("bad_json", probability=0.2), Fault("empty", probability=0.2),
        Fault("wrong_type", probability=0.2),
    ),
}  # fmt: skip
"""Named sets of faults, for `Faults.preset` and the page."""
