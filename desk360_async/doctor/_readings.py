"""Pure functions that compare answers with the rulings; they return readings, with facts for a sandbox."""

import re
from collections.abc import Iterable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from attrs import field, frozen

from desk360_async._json import as_rows, is_object
from desk360_async.doctor._live import Probe

VERSION = 1
_FIELDS_OF_TEXT = ("to", "text")
_NOT_COUNTED_BY_RULING = {"wrong method": False, "invalid key": True}
_REPORT = "please open an issue of the kind 'vendor behaviour'"
_FINE = "your code needs no change"
_AGAIN = "then run the doctor again"
_ENDINGS = {401: "the key was refused (401)", 429: "the limit was used up (429)"}
_REQUESTS = {"wrong method": "a wrong method", "invalid key": "a wrong key"}
_SKEW = 5.0  # seconds; a larger difference between the server's clock and this machine's gets a line


@frozen
class Reading:
    """One ruling of the guide, compared with the server's answers.

    Attributes:
        ruling: the ruling's number, such as "24".
        state: "confirmed", "differs" or "not asked".
        text: the observation and its consequence.
        facts: facts for `sandbox --like`, such as {"24.status": 422}.
    """

    ruling: str
    state: Literal["confirmed", "differs", "not asked"]
    text: str = ""
    facts: Mapping[str, Any] = field(factory=dict[str, Any])

    def line(self) -> str:
        """Return the reading as one line of the report: `ruling 24: differs: …`."""
        return f"ruling {self.ruling}: {self.state}" + (f": {self.text}" if self.text else "")


def facts_of(readings: Iterable[Reading]) -> dict[str, Any]:
    """Return the document that `--save` writes: a version, and each fact by its key."""
    facts: dict[str, Any] = {}
    for reading in readings:
        facts |= reading.facts
    return {"version": VERSION, "facts": facts}


def read_probes(probes: Sequence[Probe]) -> list[Reading]:
    """Return a reading for each ruling that the ten requests check; without an answer it is "not asked"."""
    found = {probe.name: probe for probe in probes}
    readers = (
        ("3", _key, ()),
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
        Reading(ruling, "not asked", why) if (why := _unasked(found, needed)) else reader(found)
        for ruling, reader, needed in readers
    ]


Found = Mapping[str, Probe]


def _unasked(found: Found, needed: Sequence[str]) -> str:
    """Return why a ruling's requests have no readable answer, and the fix; "" if each has one."""
    first = found["integrations"]
    if needed and first.status != 200:
        return f"request 1 ended with {first.status or first.error}: see ruling 3"
    if not first.status:
        return f"request 1 got no answer ({first.error}): check the network and --base-url, {_AGAIN}"
    if first.status == 429:
        return _ending(found)
    if "templates" in found and found["templates"].status == 404 and needed not in ((), ("integrations",)):
        return (
            "the key has no such integration (404): pass an --integration that `desk360 integrations` lists"
        )
    for name in needed:
        if name not in found or found[name].status in _ENDINGS:
            return _ending(found)
        if not found[name].status:
            return f"a request got no answer ({found[name].error}): check the network, {_AGAIN}"
    return ""


def _ending(found: Found) -> str:
    """Return why a request was left out, and the fix."""
    last = list(found.values())[-1]
    if last.status in _ENDINGS:
        fix = "copy it again from the panel" if last.status == 401 else "pause other programs for a minute"
        return f"{_ENDINGS[last.status]} at request {len(found)}: {fix}, {_AGAIN}"
    if last.name == "integrations":
        return f"this key has no integration: connect a WhatsApp number in the panel, {_AGAIN}"
    return f"the integration lists no number to write to: connect one in the panel, {_AGAIN}"


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
            f"the list of integrations answers {probe.status}: check --base-url, or try later",
        )
    problem = ""
    if refused is not None and refused.status != 401:
        problem = (
            f"a wrong key answers {refused.status} where 401 is documented: "
            "compare `error.status` in your code"
        )
    fine = "the server accepts the key" + (", and refuses a wrong one" if refused is not None else "")
    return _reading("3", problem, fine, {})


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
        problem = f"an empty text was accepted: look for a message to the integration's own number; {_REPORT}"
        return Reading("4", "differs", problem, facts)
    return Reading("4", "not asked", f"the refusal names no field, so JSON may be ignored: {_REPORT}")


def _order_of_checks(found: Found) -> Reading:
    probe = found["no destinations"]
    if probe.status in (400, 422):
        return Reading(
            "9",
            "confirmed",
            "the server checks fields before the template: a 404 on a send means an unknown template",
        )
    if probe.status == 404:
        problem = (
            "the server checks the template before the fields: after a 404, correct its id and send again"
        )
        return Reading("9", "differs", problem, {"24.order": "model"})
    return Reading("9", "differs", f"a send without destinations answers {probe.status}: {_REPORT}", {})


def _shape(found: Found) -> Reading:
    probe = found["integrations"]
    is_wrapped = is_object(probe.data)
    rows = as_rows(probe.data)
    problem = (
        "" if rows or probe.data in ([], {}) else f"the SDK can't read the list of integrations: {_REPORT}"
    )
    if any(not is_object(row) or not row.get("id") for row in rows):
        problem = f"an integration has no id, so the list raises UnexpectedResponse: {_REPORT}"
    shape = "data" if is_wrapped else "list"
    return _reading(
        "22",
        problem,
        f"lists are {'objects with `data`' if is_wrapped else 'JSON arrays'}, and the SDK reads them",
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
        "integrations have neither display_name nor name: read the name from `integration.raw`"
        if names == "other"
        else ""
    )
    if not problem and "status" not in first:
        problem = "integrations carry no status, so `integration.status` is None: don't test it in your code"
    return _reading(
        "23", problem, f"integrations carry {names} and status, which `.name` and `.status` return", facts
    )


def _validation(found: Found) -> Reading:
    probe = found["empty text"]
    if probe.status not in (400, 422):
        problem = (
            f"an empty text answers {probe.status} where 400 is documented, and raises no ValidationFailed: "
            "compare `error.status` in your code"
        )
        return Reading("24", "differs", problem, {})
    body = "laravel" if is_object(probe.data) and "errors" in probe.data else "document"
    if not is_object(probe.data) or not ({"error", "errors", "message"} & set(probe.data)):
        body = "other"
    facts = {"24.status": probe.status, "24.body": body}
    problem = ""
    if probe.status == 422:
        problem = f"refused fields answer 422 where 400 is documented. Both raise ValidationFailed: {_FINE}"
    elif body == "laravel":
        problem = "refusals hold `errors` by field, which the document lacks: read `error.errors`"
    elif body == "other":
        problem = f"refusals hold no error, errors or message: read `error.body`, and {_REPORT}"
    return _reading(
        "24", problem, "refused fields answer 400 as documented, and raise ValidationFailed", facts
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
        else "a refused bulk names no field, so campaigns halve each refused batch: pass a smaller batch_size"
    )
    return _reading(
        "26", problem, "a refused bulk names the field, so a campaign can find a bad number", facts
    )


def _missing_media(found: Found) -> Reading:
    probe = found["no media"]
    kind = probe.headers.get("content-type", "").partition(";")[0].strip().lower()
    facts = {"27.type": kind}
    if probe.status != 404:
        problem = (
            f"an unknown media id answers {probe.status} where 404 is documented: "
            "check `media.content_type` before you keep a file"
        )
        return Reading("27", "differs", problem, facts)
    problem = (
        ""
        if kind == "application/json"
        else f"an unknown media id answers 404 {f'as {kind}' if kind else 'without a content type'}. "
        f"It raises NotFound: {_FINE}"
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
                f"a page holds {len(rows)} rows where 20 are documented. `iter()` reads all pages: {_FINE}"
            )
        if not re.search(r"[?&]page=\d+", link):
            problems.append(
                "the Link header names no page, so `iter()` ends early: call `list(page=2)` and so on"
            )
    elif len(rows) >= 20:
        problems.append(
            f"a page of {len(rows)} rows has no Link header, so `iter()` may end early: "
            "call `list(page=2)` and so on"
        )
    facts["28.beyond"] = "404" if beyond.status == 404 else "empty" if not as_rows(beyond.data) else "rows"
    if facts["28.beyond"] == "rows":
        problems.append("a page beyond the last one repeats rows: call `iter()` instead of `list(page=…)`")
    return _reading(
        "28",
        "; ".join(problems),
        "pages and their links are as documented, so `iter()` reads all pages",
        facts,
    )


def _rate_headers(found: Found) -> Reading:
    probe = found["integrations"]
    limit = probe.headers.get("x-ratelimit-limit", "")
    facts: dict[str, Any] = {"29.headers": probe.remaining is not None and limit.isdecimal()}
    if not facts["29.headers"]:
        return Reading(
            "29",
            "differs",
            "answers carry no rate headers, so the limiter can't learn the limit: "
            "pass AsyncDesk360(limiter=TokenBucket(60, 60.0))",
            facts,
        )
    facts["29.limit"] = int(limit)
    problems = (
        []
        if limit == "60"
        else [f"the limit is {limit} requests where 60 are documented. The limiter follows it: {_FINE}"]
    )
    for name, by_ruling in _NOT_COUNTED_BY_RULING.items():
        counted = _was_counted(found, name)
        if counted is None:
            continue
        facts[f"29.{name.replace(' ', '_')}_counts"] = counted
        if counted is not by_ruling:
            problems.append(
                f"a request with {_REQUESTS[name]} {'counts' if counted else 'does not count'} "
                f"against the limit: {_FINE}"
            )
    skew = _skew(probe)
    if skew is not None and abs(skew) > _SKEW:
        order = "ahead of" if skew > 0 else "behind"
        problems.append(
            f"the server's clock is {abs(skew):.0f} s {order} this machine's: set this machine's clock by NTP"
        )
    return _reading(
        "29",
        "; ".join(problems),
        "answers carry the documented rate headers, and the limiter follows them",
        facts,
    )


def _was_counted(found: Found, name: str) -> bool | None:
    """Return whether a request was counted, by `Remaining` before and after it; None if unclear."""
    order = list(found)
    if name not in order or not 0 < order.index(name) < len(order) - 1:
        return None
    before, after = (found[order[order.index(name) + step]].remaining for step in (-1, 1))
    if before is None or after is None or not 1 <= before - after <= 2:
        return None  # a new window began, or another program uses this address
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
    if not refused and probes and probes[-1].status != 200:
        why = f"a request failed ({_answer_of(probes[-1])}) before the limit was used up: run --exhaust again"
    elif not refused:
        why = "no 429 came in 200 requests: ask the vendor for the limit of this key"
    elif not before:
        why = "the limit was used up before the first request: pause other programs, and run --exhaust again"
    elif not after:
        why = "the server accepted no request for 150 s: pause other programs, and run --exhaust again"
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
            f"429s carry no Retry-After. The limiter waits a whole minute after each: {_FINE}",
            facts,
        )
    needed = again.sent_at - refused[0].sent_at
    problem = ""
    if needed > max(1, waits[0]) + 2:
        problem = (
            f"Retry-After was {waits[0]} s, and the server refused for {needed:.0f} s: "
            "share one limiter among all processes (`desk360 docs limits`)"
        )
    return _reading(
        "31",
        problem,
        "the server accepts requests again after the Retry-After of its 429"
        + (". The limiter waits 1 s more for a Retry-After of 0" if 0 in waits else ""),
        facts,
    )


_WINDOWS = {
    "aligned": "the limit's window opens at fixed times of the clock",
    "sliding_log": "the server frees one request at a time, a minute after it came",
}


def _window(first: Probe, again: Probe) -> Reading:
    """Return the kind of the window: only a fixed one gives the whole limit back at once."""
    period = round(again.sent_at - first.sent_at)
    limit = again.headers.get("x-ratelimit-limit", "")
    left = (again.remaining or 0) / int(limit) if limit.isdecimal() and int(limit) else 0.0
    kind = "sliding_log" if left < 0.9 else "first_hit" if 55 <= period <= 65 else "aligned"
    problem = "" if kind == "first_hit" else f"{_WINDOWS[kind]} ({kind}). The limiter allows for it: {_FINE}"
    fine = f"the limit's window opens with the first request and lasts {period} s, as the limiter assumes"
    return _reading("32", problem, fine, {"32.window": kind, "32.period": period})


def read_sends(probes: Sequence[Probe]) -> list[Reading]:
    """Return the readings of `--send-to`: files, replies, the spelling of phones, the 24-hour window."""
    found = {probe.name: probe for probe in probes}
    return [
        _interactive(found["interactive with a file"]),
        _reply(found),
        _bulk(found["bulk of one"]),
        _free_text(found["text"]),
    ]


def _answer_of(probe: Probe) -> str:
    """Return an answer in words: its status and the error's class."""
    return " ".join(part for part in (str(probe.status or ""), probe.error) if part)


def _interactive(probe: Probe) -> Reading:
    if probe.status == 200:
        text = (
            "an interactive message with a file is accepted. If the phone shows a grey picture above the "
            "button, files work: send them by `client.request(…, files=…)`"
        )
        return Reading("16", "differs", text, {"16.files": True})
    data: Mapping[str, Any] = probe.data if is_object(probe.data) else {}
    if probe.status in (400, 422) and "link" in str(data):
        text = "an interactive message takes a link and no file, so the SDK's headers have links"
        return Reading("16", "confirmed", text, {"16.files": False})
    text = (
        f"an interactive message with a file ended with {_answer_of(probe)}: write from the phone to the "
        "integration, and run --send-to again"
    )
    return Reading("16", "not asked", text)


def _reply(found: Found) -> Reading:
    one, two = found["template"], found["two destinations"]
    if one.status != 200:
        return Reading(
            "21",
            "not asked",
            f"the template was refused ({_answer_of(one)}): correct --template or --language",
        )
    single: Any = one.data.get("message_id") if is_object(one.data) else None
    ids: Any = two.data.get("message_id") if two.status == 200 and is_object(two.data) else None
    number = int(ids is not None) if isinstance(ids, str | int | None) else len(as_rows(ids))
    facts = {"21.list": isinstance(single, list), "21.ids_of_two": number}
    if two.status != 200:
        text = f"two destinations in one request answer {_answer_of(two)}. The SDK sends one: {_FINE}"
        return Reading("21", "differs", text, facts)
    problem = f"two destinations in one request return {number} ids: {_REPORT}"
    if number == 1 and facts["21.list"]:
        problem = f"a send returns a list in `message_id`: {_REPORT}"
    fine = "two destinations in one request return one id, so the SDK sends one destination in each"
    return _reading("21", problem if number != 1 or facts["21.list"] else "", fine, facts)


def _bulk(probe: Probe) -> Reading:
    if probe.status != 200 or not is_object(probe.data):
        text = f"the bulk of one was refused ({_answer_of(probe)}): correct --template or --language"
        return Reading("19", "not asked", text)
    phones = probe.data.get("phones")
    texts = [str(p.get("phone", "")) if is_object(p) else str(p) for p in as_rows(phones)]
    spelling = "none" if not texts else "plus" if texts[0].startswith("+") else "digits"
    problem = (
        ""
        if texts
        else "a bulk answer lists no phone, so campaigns mark its recipients unknown: "
        'pass Campaign(strategy="single")'
    )
    form = "with +" if spelling == "plus" else "as digits without +"
    fine = f"a bulk answer lists phones {form}, so campaigns see the accepted recipients"
    return _reading("19", problem, fine, {"26.spelling": spelling})


def _free_text(probe: Probe) -> Reading:
    if not probe.status:
        return Reading(
            "17", "not asked", f"the text got no answer ({_answer_of(probe)}): run --send-to again"
        )
    if probe.status == 200:
        text = (
            "the server accepts a text. If the phone doesn't show it, the 24-hour window was closed: "
            "a webhook then reports `failed`"
        )
        return Reading("17", "confirmed", text, {"17.outside_window": "accepted"})
    text = (
        f"a text is refused with {probe.status}, perhaps because the 24-hour window is closed: "
        f"write from the phone to the integration, and run --send-to again"
    )
    return Reading("17", "differs", text, {"17.outside_window": str(probe.status)})
