"""Readings of single answers: each answer that a server may give has a line, with the fact and what to do."""

from typing import Any

import pytest
from attrs import evolve

from desk360_async.doctor import Probe, Reading, read_exhaustion, read_probes, read_sends

LIMIT = {"x-ratelimit-limit": "60", "date": "Thu, 01 Jan 1970 00:16:40 GMT"}
ROWS = [{"id": 11, "display_name": "Shop", "status": "active"}]
REFUSED = {"error": {"code": "failed_validation", "message": "The text field is required."}}
NO_PHONES = {"error": {"message": "The phones field is required."}}
PAGE = {"link": '<https://x/?page=2>; rel="next"'}
AS_RULED = (
    Probe("integrations", 200, LIMIT | {"x-ratelimit-remaining": "59"}, ROWS, "", 1000.0),
    Probe("templates", 200, PAGE | {"x-ratelimit-remaining": "58"}, [{"id": n} for n in range(1, 21)]),
    Probe("beyond", 200, {"x-ratelimit-remaining": "57"}, []),
    Probe("invalid key", 401),
    Probe("empty text", 400, {"x-ratelimit-remaining": "55"}, REFUSED),
    Probe("no destinations", 400, {"x-ratelimit-remaining": "54"}, REFUSED),
    Probe("no phones", 400, {"x-ratelimit-remaining": "53"}, NO_PHONES),
    Probe("wrong method", 405),
    Probe("no media", 404, {"content-type": "application/json", "x-ratelimit-remaining": "52"}),
    Probe("integrations again", 200, LIMIT | {"x-ratelimit-remaining": "51"}, ROWS),
)


def reading(ruling: str, name: str, **changes: Any) -> Reading:
    """Return a ruling's reading where one answer differs."""
    probes = [evolve(probe, **changes) if probe.name == name else probe for probe in AS_RULED]
    return next(found for found in read_probes(probes) if found.ruling == ruling)


def test_answers_as_the_rulings_describe_them_confirm_them_all() -> None:
    assert {found.line() for found in read_probes(AS_RULED) if found.state != "confirmed"} == set()


@pytest.mark.parametrize(
    ("ruling", "name", "changes", "words"),
    [
        ("3", "integrations", {"status": 500}, "answers 500: check --base-url"),
        ("3", "invalid key", {"status": 403}, "a wrong key answers 403"),
        ("4", "empty text", {"status": 200, "data": {"message_id": "x"}}, "look for a message"),
        ("9", "no destinations", {"status": 404}, "the template before the fields"),
        ("9", "no destinations", {"status": 500}, "open an issue"),
        ("22", "integrations", {"data": None}, "can't read the list"),
        ("22", "integrations", {"data": [{"name": "x"}]}, "an integration has no id"),
        ("23", "integrations", {"data": [{"id": 1, "label": "x"}]}, "neither display_name nor name"),
        ("24", "empty text", {"status": 500}, "compare `error.status`"),
        ("24", "empty text", {"data": ["no"]}, "read `error.body`"),
        ("26", "no phones", {"status": 200}, "answers 200: please open an issue"),
        ("27", "no media", {"status": 200}, "check `media.content_type`"),
        ("27", "no media", {"headers": {}}, "answers 404 without a content type"),
        ("28", "templates", {"headers": {"link": "<x>; rel=next"}}, "names no page"),
        ("29", "integrations", {"sent_at": 900.0}, "100 s ahead of this machine's"),
    ],
)
def test_an_answer_that_differs_has_its_line(
    ruling: str, name: str, changes: dict[str, Any], words: str
) -> None:
    found = reading(ruling, name, **changes)
    assert found.state == "differs"
    assert words in found.text


@pytest.mark.parametrize(
    ("ruling", "name", "changes", "words"),
    [
        ("4", "empty text", {"data": {"error": "no"}}, "names no field"),
        ("23", "integrations", {"data": []}, "connect a WhatsApp number"),
        (
            "3",
            "integrations",
            {"status": 0, "error": "TimedOut"},
            "(TimedOut): check the network and --base-url",
        ),
        ("22", "integrations", {"status": 401}, "see ruling 3"),
        ("22", "integrations", {"status": 0, "error": "TimedOut"}, "ended with TimedOut: see ruling 3"),
        ("27", "no media", {"status": 0, "error": "TimedOut"}, "(TimedOut): check the network"),
        *(
            (ruling, "templates", {"status": 404}, "--integration")
            for ruling in ("4", "9", "24", "26", "27", "28")
        ),
    ],
)
def test_an_answer_that_settles_no_ruling_says_what_to_do(
    ruling: str, name: str, changes: dict[str, Any], words: str
) -> None:
    found = reading(ruling, name, **changes)
    assert (found.state, words in found.text) == ("not asked", True)


@pytest.mark.parametrize("remaining", ["59", "", "-1"])
def test_a_count_that_others_disturb_is_no_fact(remaining: str) -> None:
    found = reading("29", "no media", headers={"x-ratelimit-remaining": remaining})
    assert "29.wrong_method_counts" not in found.facts


# ── --exhaust ──────────────────────────────────────────────────────────────────────────────────────────────


def exhausted(*answers: tuple[float, int, str]) -> dict[str, Reading]:
    """Return the readings of answers: seconds, status, and `Remaining` or `Retry-After`."""
    probes = [
        Probe(
            "x",
            status,
            {"retry-after" if status == 429 else "x-ratelimit-remaining": text} | LIMIT,
            sent_at=at,
        )
        for at, status, text in answers
    ]
    return {found.ruling: found for found in read_exhaustion(probes)}


USED = ((0.0, 200, "59"), (6.0, 200, "0"))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (USED, "no 429 came"),
        (((0.0, 429, "9"),), "used up before"),
        (((0.0, 200, "59"), (1.0, 401, "")), "a request failed (401)"),
        (((0.0, 429, "1"), (2.0, 200, "59")), "used up before"),
        ((*USED, (7.0, 429, "54")), "accepted no request for 150 s"),
    ],
)
def test_an_exhaustion_without_its_end_is_not_asked(answers: tuple[Any, ...], words: str) -> None:
    found = exhausted(*answers)
    assert {one.state for one in found.values()} == {"not asked"}
    assert all(words in one.text for one in found.values())


@pytest.mark.parametrize(
    ("wait", "at", "left", "state", "kind"),
    [
        ("54", 61.0, "59", "confirmed", "first_hit"),
        ("20", 28.0, "59", "confirmed", "aligned"),
        ("54", 61.0, "0", "confirmed", "sliding_log"),
        ("1", 61.0, "59", "differs", "first_hit"),
        ("", 61.0, "59", "differs", "first_hit"),
    ],
)
def test_the_window_and_the_wait_are_read(wait: str, at: float, left: str, state: str, kind: str) -> None:
    found = exhausted(*USED, (7.0, 429, wait), (at, 200, left))
    assert (found["31"].state, found["32"].facts["32.window"]) == (state, kind)
    assert found["32"].state == ("confirmed" if kind == "first_hit" else "differs")


# ── --send-to ──────────────────────────────────────────────────────────────────────────────────────────────

SENT = {
    "template": Probe("template", 200, data={"message_id": "gBEG"}),
    "two destinations": Probe("two destinations", 200, data={"message_id": "gBEG"}),
    "bulk of one": Probe("bulk of one", 200, data={"phones": ["+905551112233"]}),
    "text": Probe("text", 200),
    "interactive with a file": Probe(
        "interactive with a file", 400, data={"error": {"message": "The header.image.link field is required"}}
    ),
}


@pytest.mark.parametrize(
    ("ruling", "name", "changes", "state", "words"),
    [
        ("21", "template", {"status": 404, "error": "NotFound"}, "not asked", "(404 NotFound)"),
        (
            "21",
            "two destinations",
            {"status": 400, "error": "ValidationFailed"},
            "differs",
            "The SDK sends one",
        ),
        ("21", "two destinations", {"data": {"message_id": ["a", "b"]}}, "differs", "return 2 ids"),
        ("19", "bulk of one", {"status": 0, "error": "TimedOut"}, "not asked", "(TimedOut)"),
        ("19", "bulk of one", {"data": {"phones": []}}, "differs", "lists no phone"),
        ("19", "bulk of one", {"data": {"phones": [{"phone": "90555"}]}}, "confirmed", "as digits without +"),
        ("17", "text", {"status": 0, "error": "TimedOut"}, "not asked", "run --send-to again"),
        ("17", "text", {"status": 400}, "differs", "24-hour window is closed"),
        ("16", "interactive with a file", {}, "confirmed", "takes a link and no file"),
        ("16", "interactive with a file", {"status": 200}, "differs", "files=…"),
        ("16", "interactive with a file", {"data": None}, "not asked", "run --send-to again"),
        (
            "16",
            "interactive with a file",
            {"status": 0, "error": "TimedOut"},
            "not asked",
            "ended with TimedOut",
        ),
    ],
)
def test_a_send_that_differs_has_its_line(
    ruling: str, name: str, changes: dict[str, Any], state: str, words: str
) -> None:
    probes = [evolve(probe, **changes) if probe.name == name else probe for probe in SENT.values()]
    found = next(one for one in read_sends(probes) if one.ruling == ruling)
    assert (found.state, words in found.text) == (state, True)


def test_an_integration_without_a_number_and_a_key_without_integrations_have_their_lines() -> None:
    """Request 5 is left out for the first, and all but request 1 for the second."""
    lines = [
        next(found.line() for found in read_probes(probes) if found.ruling == "4")
        for probes in ([probe for probe in AS_RULED if probe.name != "empty text"], AS_RULED[:1])
    ]
    assert ["no number" in lines[0], "no integration" in lines[1]] == [True, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"data": {"message_id": None}}, "return 0 ids"), ({"data": {"message_id": ["a"]}}, "return one id")],
)
def test_the_ids_of_two_destinations_are_counted(changes: dict[str, Any], words: str) -> None:
    found = read_sends([evolve(p, **changes) if n == "two destinations" else p for n, p in SENT.items()])
    assert words in next(one.text for one in found if one.ruling == "21")
