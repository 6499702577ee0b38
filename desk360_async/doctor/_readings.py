"""Readings: the meaning of answers for the rulings, and facts that a sandbox can follow. Pure functions."""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from desk360_async._json import as_rows, is_object
from desk360_async.doctor._findings import Reading
from desk360_async.doctor._live import Probe

VERSION = 1
_FIELDS_OF_TEXT = ("to", "text")
_NOT_COUNTED_BY_RULING = {"wrong method": False, "invalid key": True}
_REPORT = "please open an issue of the kind 'vendor behaviour'"
_SKEW = 5.0  # seconds between the server's clock and ours that are worth a line


def facts_of(readings: Iterable[Reading]) -> dict[str, Any]:
    """Return the document that `--save` writes: a version, and each fact by its key."""
    facts: dict[str, Any] = {}
    for reading in readings:
        facts |= reading.facts
    return {"version": VERSION, "facts": facts}


def read_probes(probes: Sequence[Probe]) -> list[Reading]:
    """Return a reading for each ruling that the ten requests ask for; those not reached are "not asked"."""
    found = {probe.name: probe for probe in probes}
    readers = (
        ("3", _key, ("integrations",)),
        ("4", _json_is_read, ("empty text",)),
        ("9", _order_of_checks, ("no destinations",)),
        ("22", _shape, ("integrations",)),
        ("23", _names, ("integrations",)),
        ("24", _validation, ("empty text",)),
        ("26", _bulk_names_its_field, ("no phones",)),
        ("27", _missing_media, ("no media",)),
        ("28", _pages, ("templates", "beyond")),
        ("29", _rate_headers, ("integrations",)),
    )
    return [
        reader(found) if all(name in found and found[name].status for name in needed) else _unasked(ruling)
        for ruling, reader, needed in readers
    ]


def _unasked(ruling: str) -> Reading:
    return Reading(
        ruling, "not asked", "the run ended before: mend the first line that differs, and ask again"
    )


Found = Mapping[str, Probe]


def _reading(ruling: str, problem: str, fine: str, facts: Mapping[str, Any]) -> Reading:
    return Reading(ruling, "differs" if problem else "confirmed", problem or fine, dict(facts))


def _key(found: Found) -> Reading:
    probe = found["integrations"]
    refused = found.get("invalid key")
    if probe.status == 401:
        return Reading(
            "3", "differs", "the key is refused (401): copy it again from the panel's Public API page"
        )
    if probe.status != 200:
        return Reading(
            "3",
            "differs",
            f"reading the integrations answers {probe.status}: check --base-url, it may be another server's",
        )
    problem = ""
    if refused is not None and refused.status != 401:
        problem = f"a wrong key answers {refused.status} where 401 is documented: compare `error.status`"
    return _reading("3", problem, "the key is accepted, and a wrong one is refused", {})


def _json_is_read(found: Found) -> Reading:
    probe = found["empty text"]
    named = _named_fields(probe)
    facts = {"4.json": "to" not in named} if named else {}
    if "to" in named:
        problem = 'JSON bodies are ignored (`to` is called missing): pass AsyncDesk360(encoding="form")'
        return Reading("4", "differs", problem, facts)
    if "text" in named:
        return Reading("4", "confirmed", "JSON bodies are read, so the default encoding fits", facts)
    if 200 <= probe.status < 300:
        problem = (
            "an empty text was accepted: look at the phone of this integration, it may have got a message"
        )
        return Reading("4", "differs", problem, facts)
    return Reading("4", "not asked", "the refusal names no field, so it doesn't show whether JSON is read")


def _order_of_checks(found: Found) -> Reading:
    probe = found["no destinations"]
    if probe.status in (400, 422):
        return Reading(
            "9",
            "confirmed",
            "fields are checked before the template is looked up: a 404 on a send means the template",
        )
    if probe.status == 404:
        problem = "the template is looked up first: a 404 on a send may hide faults in its fields"
        return Reading("9", "differs", problem, {"24.order": "model"})
    return Reading("9", "differs", f"a send without destinations answers {probe.status}: {_REPORT}", {})


def _shape(found: Found) -> Reading:
    probe = found["integrations"]
    is_wrapped = is_object(probe.data)
    rows = as_rows(probe.data)
    problem = (
        "" if rows or probe.data in ([], {}) else f"the list can't be read, and the SDK neither: {_REPORT}"
    )
    if any(not is_object(row) or not row.get("id") for row in rows):
        problem = f"a row has no id: listing integrations raises UnexpectedResponse; {_REPORT}"
    shape = "data" if is_wrapped else "list"
    return _reading(
        "22",
        problem,
        f"lists are {'wrapped in data' if is_wrapped else 'bare'}; the SDK reads both",
        {"22.shape": shape},
    )


def _names(found: Found) -> Reading:
    rows = [row for row in as_rows(found["integrations"].data) if is_object(row)]
    if not rows:
        return Reading(
            "23", "not asked", "this key has no integration: connect a WhatsApp number in the panel"
        )
    first = rows[0]
    names = "display_name" if "display_name" in first else "name" if "name" in first else "other"
    facts = {"23.names": names, "23.status": "status" in first}
    problem = (
        "integrations have neither display_name nor name: read the name from `.raw`"
        if names == "other"
        else ""
    )
    if not problem and "status" not in first:
        problem = "integrations carry no status: `.status` is None, so don't decide by it"
    return _reading(
        "23", problem, f"integrations carry {names} and status, and `.name` and `.status` have them", facts
    )


def _validation(found: Found) -> Reading:
    probe = found["empty text"]
    if probe.status not in (400, 422):
        problem = f"a refused field answers {probe.status}: it is no ValidationFailed; compare `error.status`"
        return Reading("24", "differs", problem, {})
    body = "laravel" if is_object(probe.data) and "errors" in probe.data else "document"
    if not is_object(probe.data) or not ({"error", "errors", "message"} & set(probe.data)):
        body = "other"
    facts = {"24.status": probe.status, "24.body": body}
    problem = ""
    if probe.status == 422:
        problem = "refused fields answer 422 where 400 is documented; both raise ValidationFailed"
    elif body != "document":
        problem = f"refusals have the shape {body!r} where the document's is expected: use `error.errors`"
    return _reading(
        "24", problem, "refused fields answer 400 in the document's shape, and raise ValidationFailed", facts
    )


def _bulk_names_its_field(found: Found) -> Reading:
    probe = found["no phones"]
    named = _named_fields(probe)
    facts = {"26.names_field": bool(named)}
    if probe.status not in (400, 422):
        return Reading("26", "differs", f"a bulk without phones answers {probe.status}: {_REPORT}", {})
    problem = (
        ""
        if named
        else "a refused bulk names no field: a campaign halves each refused batch; use a smaller batch_size"
    )
    return _reading(
        "26", problem, "a refused bulk names its field, so campaigns can find a bad number", facts
    )


def _missing_media(found: Found) -> Reading:
    probe = found["no media"]
    kind = probe.headers.get("content-type", "").partition(";")[0].strip().lower()
    facts = {"27.type": kind}
    if probe.status != 404:
        problem = f"an unknown media id answers {probe.status}: look at a file's type before you keep it"
        return Reading("27", "differs", problem, facts)
    problem = (
        ""
        if kind == "application/json"
        else f"an unknown media id answers 404 as {kind or 'no type'}; it raises NotFound all the same"
    )
    return _reading("27", problem, "an unknown media id answers 404 as JSON, and raises NotFound", facts)


def _pages(found: Found) -> Reading:
    probe, beyond = found["templates"], found["beyond"]
    rows, link = as_rows(probe.data), probe.headers.get("link", "")
    facts: dict[str, Any] = {"28.link": bool(link)}
    problems: list[str] = []
    if link:
        facts["28.page_size"] = len(rows)
        if len(rows) != 20:
            problems.append(
                f"a page holds {len(rows)} rows where 20 are documented; iter() reads all the same"
            )
        if not re.search(r"[?&]page=\d+", link):
            problems.append(
                "the Link header names no page: iterations end early, so pass page=2, 3, … yourself"
            )
    elif len(rows) >= 20:
        problems.append(
            f"a page of {len(rows)} rows has no Link header: iterations end early, so pass page=2, 3, …"
        )
    facts["28.beyond"] = "404" if beyond.status == 404 else "empty" if not as_rows(beyond.data) else "rows"
    if facts["28.beyond"] == "rows":
        problems.append("a page behind the last one repeats rows: use iter(), and no page by number")
    return _reading(
        "28", "; ".join(problems), "pages and their links are as documented, so iter() reads them all", facts
    )


def _rate_headers(found: Found) -> Reading:
    probe = found["integrations"]
    limit = probe.headers.get("x-ratelimit-limit", "")
    facts: dict[str, Any] = {"29.headers": probe.remaining is not None and limit.isdecimal()}
    if not facts["29.headers"]:
        return Reading(
            "29",
            "differs",
            "answers carry no rate headers: give the limiter the limit, such as TokenBucket(60, 60.0)",
            facts,
        )
    facts["29.limit"] = int(limit)
    problems = (
        []
        if limit == "60"
        else [f"the limit is {limit} requests where 60 are documented; the limiter follows it"]
    )
    for name, by_ruling in _NOT_COUNTED_BY_RULING.items():
        counted = _was_counted(found, name)
        if counted is None:
            continue
        facts[f"29.{name.replace(' ', '_')}_counts"] = counted
        if counted is not by_ruling:
            problems.append(
                f"a request with a {name} {'counts' if counted else 'does not count'} against the limit"
            )
    skew = _skew(probe)
    if skew is not None and abs(skew) > _SKEW:
        problems.append(f"the server's clock is {skew:+.0f} s from ours: set this machine's clock by NTP")
    return _reading(
        "29",
        "; ".join(problems),
        "answers carry the documented rate headers, and the limiter learns from them",
        facts,
    )


def _was_counted(found: Found, name: str) -> bool | None:
    """Return whether a request took one of the limit, by `Remaining` of its neighbours; None if unclear."""
    order = list(found)
    if name not in order or not 0 < order.index(name) < len(order) - 1:
        return None
    before, after = (found[order[order.index(name) + step]].remaining for step in (-1, 1))
    if before is None or after is None or not 1 <= before - after <= 2:
        return None  # the window began anew, or another program uses this address
    return before - after == 2


def _skew(probe: Probe) -> float | None:
    try:
        return parsedate_to_datetime(probe.headers.get("date", "")).timestamp() - probe.sent_at
    except (TypeError, ValueError):
        return None


def _named_fields(probe: Probe) -> set[str]:
    """Return the fields that a refusal names, in `errors` or in the words of its message."""
    data: Mapping[str, Any] = probe.data if is_object(probe.data) else {}
    errors = data.get("errors")
    named: set[str] = {str(name).partition(".")[0] for name in errors} if is_object(errors) else set()
    error = data.get("error")
    words = " ".join(
        str(part)
        for part in (data.get("message"), error.get("message") if is_object(error) else error)
        if part
    )
    known = (*_FIELDS_OF_TEXT, "phones", "destinations", "template_id", "language_id", "destinations_file")
    return named | {
        name for name in known if re.search(rf"\b{name}\b(?! field must)", words.replace(" id", "_id"))
    }


def read_exhaustion(probes: Sequence[Probe]) -> list[Reading]:
    """Return the readings of `--exhaust`: the wait after a 429, and the kind of the server's window."""
    refused = [probe for probe in probes if probe.status == 429]
    accepted = [probe for probe in probes if probe.status == 200]
    since = refused[0].sent_at if refused else 0.0
    before, after = ([p for p in accepted if (p.sent_at > since) is late] for late in (False, True))
    why = ""
    if not refused:
        why = "no 429 came in 200 requests: another limit may hold for this key"
    elif not before:
        why = "the limit was used up before: let other programs pause, and ask again"
    elif not after:
        why = "the server didn't accept again in 150 s: let other programs pause, and ask again"
    if why:
        return [Reading("31", "not asked", why), Reading("32", "not asked", why)]
    first, again = before[0], after[0]
    return [_refusals(refused, again), _window(first, again)]


def _refusals(refused: Sequence[Probe], again: Probe) -> Reading:
    told = [probe.headers.get("retry-after", "") for probe in refused]
    waits = [int(text) for text in told if text.isascii() and text.isdecimal()]
    facts = {"31.zero": 0 in waits, "31.headers": bool(waits)}
    if not waits:
        return Reading(
            "31",
            "differs",
            "429s carry no Retry-After: the limiter waits for a whole minute after one",
            facts,
        )
    needed = again.sent_at - refused[0].sent_at
    problem = ""
    if needed > max(1, waits[0]) + 2:
        problem = f"the server asked for {waits[0]} s and refused for {needed:.0f} s: 429s lengthen it"
    return _reading(
        "31",
        problem,
        f"Retry-After holds; 0 while refusing {'came' if 0 in waits else 'never came'}, and both are borne",
        facts,
    )


def _window(first: Probe, again: Probe) -> Reading:
    """Distinguish a fixed window, which gives the whole limit back at once, from one that slides."""
    period = round(again.sent_at - first.sent_at)
    limit = again.headers.get("x-ratelimit-limit", "")
    left = (again.remaining or 0) / int(limit) if limit.isdecimal() and int(limit) else 0.0
    kind = "sliding_log" if left < 0.9 else "first_hit" if 55 <= period <= 65 else "aligned"
    problem = "" if kind == "first_hit" else f"the window is of the kind {kind}; the limiter fits it too"
    fine = f"the window opens with the first request and lasts {period} s, as the limiter assumes"
    return _reading("32", problem, fine, {"32.window": kind, "32.period": period})


def read_sends(probes: Sequence[Probe]) -> list[Reading]:
    """Return the readings of `--send-to`: replies, the spelling of phones, the 24-hour window."""
    found = {probe.name: probe for probe in probes}
    return [_reply(found), _bulk(found["bulk of one"]), _free_text(found["text"])]


def _answer_of(probe: Probe) -> str:
    """Return an answer in words: its status and the error's class."""
    return " ".join(part for part in (str(probe.status or ""), probe.error) if part)


def _reply(found: Found) -> Reading:
    one, two = found["template"], found["two destinations"]
    if one.status != 200:
        return Reading(
            "21", "not asked", f"the template was not accepted ({_answer_of(one)}): mend that first"
        )
    single: Any = one.data.get("message_id") if is_object(one.data) else None
    ids: Any = two.data.get("message_id") if two.status == 200 and is_object(two.data) else None
    number = int(ids is not None) if isinstance(ids, str | int | None) else len(as_rows(ids))
    facts = {"21.list": isinstance(single, list), "21.ids_of_two": number}
    if two.status != 200:
        text = f"two destinations in one request answer {_answer_of(two)}: send one, as the SDK does"
        return Reading("21", "differs", text, facts)
    problem = f"two destinations answer with {number} ids: one request may serve several; {_REPORT}"
    fine = "two destinations answer with one id, so the SDK sends one destination a request"
    return _reading("21", problem if number > 1 or facts["21.list"] else "", fine, facts)


def _bulk(probe: Probe) -> Reading:
    if probe.status != 200 or not is_object(probe.data):
        return Reading("19", "not asked", f"the bulk of one was not accepted ({_answer_of(probe)})")
    phones = probe.data.get("phones")
    texts = [str(p.get("phone", "")) if is_object(p) else str(p) for p in as_rows(phones)]
    spelling = "none" if not texts else "plus" if texts[0].startswith("+") else "digits"
    problem = (
        ""
        if texts
        else "a bulk answer lists no phone: campaigns call its recipients unknown; use strategy=single"
    )
    fine = f"a bulk answer lists phones ({spelling}), so campaigns see who was accepted"
    return _reading("19", problem, fine, {"26.spelling": spelling})


def _free_text(probe: Probe) -> Reading:
    if not probe.status:
        return Reading("17", "not asked", f"the text got no answer ({_answer_of(probe)}): ask again")
    if probe.status == 200:
        text = "a text is accepted; outside 24 hours WhatsApp fails it later, by webhook: look at the phone"
        return Reading("17", "confirmed", text, {"17.outside_window": "accepted"})
    text = (
        f"a text answers {probe.status}, which may be the 24-hour window: write from the phone, and ask again"
    )
    return Reading("17", "differs", text, {"17.outside_window": str(probe.status)})
