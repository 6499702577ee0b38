"""The ASGI application of the API: the steps of a Laravel server in their order, one method for each step.

fault on arrival → body (413) → final slash (301) → route (404, 405) → limit (429) → key (401) → Accept (406)
→ Content-Type (415) → integration (404) → fields (400) → answer → fault on the answer. A request that
ends before the limit is not counted, and its answer has no rate headers (measured). All other requests are
counted, invalid ones too.
"""

import hmac
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from typing import Any

from attrs import define, evolve, field, frozen
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from desk360_async.sandbox.delivery import Line, Sleep, deliver
from desk360_async.sandbox.endpoints import Call, Invalid, Match, file_answer, find, without_prefix
from desk360_async.sandbox.facts import Facts, follow, link_files, refusal
from desk360_async.sandbox.faults import Fault, Faults, is_processed, replacement, spoil
from desk360_async.sandbox.forms import Body, BodyReader, TooLarge, is_map
from desk360_async.sandbox.records import (
    Answer,
    Feed,
    ReceivedRequest,
    RequestLog,
    Store,
    Verdict,
    describe,
    model_not_found,
)
from desk360_async.sandbox.rules import members
from desk360_async.sandbox.throttle import Throttle
from desk360_async.sandbox.throttle import Verdict as Count

_ACCEPTED = {"*/*", "application/*", "application/json"}


@define
class Visit:
    """The data of one request, collected step by step; they become an entry of the request log."""

    request: Request
    path: str
    headers: dict[str, str]
    body: Body = field(factory=Body)
    verdict: Verdict = "not_counted"
    rate_headers: dict[str, str] = field(factory=dict[str, str])
    problems: tuple[str, ...] = ()
    fault: Fault | None = None
    header_fault: Fault | None = None
    reason: str = ""


@frozen
class Settings:
    """How the API answers.

    Attributes:
        api_key: the one key that it accepts.
        max_body: bytes of the largest body.
        sleep: waits for a number of seconds of the sandbox's clock.
        keep_alive: seconds that `Keep-Alive: timeout=` announces; None: not announced.
        facts: facts about the vendor's real server.
    """

    api_key: str = field(repr=False)
    max_body: int
    sleep: Sleep
    keep_alive: int | None = None
    facts: Facts = field(factory=Facts)


class Api:
    """Desk360's public API, as an ASGI application over a store, a throttle and faults."""

    def __init__(
        self,
        store: Store,
        throttle: Throttle,
        faults: Faults,
        log: RequestLog,
        feed: Feed,
        settings: Settings,
    ) -> None:
        self._store, self._throttle, self._faults, self._log, self._feed = store, throttle, faults, log, feed
        self._expected = f"Bearer {settings.api_key}".encode()
        self._settings = settings
        keep_alive = settings.keep_alive
        self._always: dict[str, str] = {"keep-alive": f"timeout={keep_alive}"} if keep_alive else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request, line = Request(scope, receive), Line.of(scope, receive, send, self._settings.sleep)
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        visit = Visit(request, raw_path.decode("latin-1"), _headers(request))
        arrival = self._faults.strike("arrival", request.method, without_prefix(visit.path))
        if arrival and arrival.kind == "reset_before":
            visit.verdict, visit.fault = "dropped", arrival
            self._note(visit, None)
            await line.reset()
            return
        if arrival and arrival.kind == "refused_early":
            visit.fault = arrival
            self._note(visit, arrival.status or 413)
            await line.whole(_too_large(arrival.status or 413))
            return
        if arrival:
            await line.sleep(1.0 if arrival.delay is None else arrival.delay)
        await self._answer(visit, line)

    async def _answer(self, visit: Visit, line: Line) -> None:
        try:
            visit.body = await self._body(visit)
            answer = self._decide(visit)
        except TooLarge:
            # Laravel refuses before it routes and counts; the rest of the body is never read.
            answer = _too_large(413)
        except ClientDisconnect:
            visit.verdict = "dropped"
            self._note(visit, None)
            return
        dated = {"date": formatdate(self._throttle.wall_time(), usegmt=True), **self._always}
        answer = evolve(answer, headers=dated | visit.rate_headers | answer.headers)
        if visit.header_fault:
            answer = spoil(answer, visit.header_fault)
        visit.reason = answer.reason
        silent = visit.fault is not None and visit.fault.kind in ("reset_after", "stall")
        self._note(visit, None if silent else answer.status)
        await deliver(line, answer, visit.fault)

    async def _body(self, visit: Visit) -> Body:
        """Read the body.

        Raises:
            TooLarge: if it has more bytes than the server takes.
            ClientDisconnect: if the connection ended before the body did.
        """
        declared, most = visit.headers.get("content-length", ""), self._settings.max_body
        if declared.isdecimal() and int(declared) > most:
            raise TooLarge
        reader, more = BodyReader(visit.headers.get("content-type", ""), most), True
        while more:  # trio warns about Starlette's generator if it is neither read to its end nor closed
            message = await visit.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            reader.feed(message.get("body", b""))
            more = message.get("more_body", False)
        return reader.body()

    def _decide(self, visit: Visit) -> Answer:
        method, path = visit.request.method, visit.path
        if len(path) > 1 and path.endswith("/"):
            return self._redirect(visit)
        if file := self._cdn_file(visit):
            return file
        matches = find(path)
        if not matches:
            message = f"The route {path.lstrip('/')} could not be found."
            return Answer.of_error(404, "not_found_exception", message)
        match = next((match for match in matches if method in match.route.methods), None)
        if match:
            return self._count(visit, match)
        if self._settings.facts.wrong_method_counts:
            visit.rate_headers = self._counted(visit).headers
        return _method_not_allowed(method, path, matches)

    def _redirect(self, visit: Visit) -> Answer:
        """Redirect as Laravel's .htaccess does; a client that follows turns a POST into a GET."""
        query = visit.request.url.query
        location = _origin(visit.request) + visit.path.rstrip("/") + (f"?{query}" if query else "")
        return Answer(301, b"", {"location": location, "content-type": "text/html"})

    def _cdn_file(self, visit: Visit) -> Answer | None:
        """Return the uploaded file of a `url`; as on the vendor's CDN, no key and no limit apply."""
        parts = visit.path.split("/")
        if len(parts) != 5 or parts[1] != "integrations" or parts[3] != "attachments":
            return None
        media = self._store.media.get(parts[4])
        return file_answer(media) if media and str(media.integration_id) == parts[2] else None

    def _count(self, visit: Visit, match: Match) -> Answer:
        if not self._settings.facts.invalid_key_counts and not self._has_key(visit):
            return _unauthenticated()
        verdict = self._counted(visit)
        visit.rate_headers = verdict.headers if self._settings.facts.rate_headers else {}
        visit.verdict = "counted" if verdict.counted else "refused"
        if not verdict.counted:
            return Answer.of_error(429, "too_many_requests_exception", "Too Many Attempts.")
        phones = frozenset(_phones(visit.body.fields) if self._faults.name_phones else ())
        target = (visit.request.method, without_prefix(visit.path), phones)
        visit.fault = self._faults.strike("answer", *target)
        visit.header_fault = self._faults.strike("headers", *target)
        if visit.fault and not is_processed(visit.fault):
            return replacement(visit.fault)
        answer = self._refusal(visit) or self._process(visit, match)
        return spoil(answer, visit.fault) if visit.fault else answer

    def _counted(self, visit: Visit) -> Count:
        client = visit.request.client
        return self._throttle.count(client.host if client else "")

    def _has_key(self, visit: Visit) -> bool:
        given = visit.headers.get("authorization", "").encode()
        return hmac.compare_digest(given, self._expected)

    def _refusal(self, visit: Visit) -> Answer | None:
        if not self._has_key(visit):
            return _unauthenticated()
        accept = visit.headers.get("accept", "*/*")
        ranges = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
        if not ranges & _ACCEPTED:
            message = "Only application/json and */* are supported."
            return Answer.of_error(406, "not_acceptable_exception", message)
        if visit.request.method == "POST" and not visit.body.supported:
            message = "Only application/json is supported."
            return Answer.of_error(415, "unsupported_media_type_exception", message)
        return None

    def _process(self, visit: Visit, match: Match) -> Answer:
        integration = match.segments.get("integration_id", "")
        known = {str(identity): identity for identity in self._store.account.templates}
        if "integration_id" in match.segments and integration not in known:
            return model_not_found("Integration", integration)
        fault = visit.fault
        is_partial = fault is not None and fault.kind == "partial" and not fault.accepted
        call = Call(
            integration_id=known.get(integration, 0),
            fields=link_files(visit.body.fields, self._settings.facts, visit.path)
            if self._reads(visit)
            else {},
            query=_query(visit.request),
            path=visit.path,
            origin=partial(_origin, visit.request),
            media_id=match.segments.get("media_id", ""),
            taken_share=fault.share if fault and is_partial else 1.0,
        )
        try:
            answer = match.route.endpoint(self._store, call)
            return follow(answer, self._settings.facts, visit.path, call.query.get("page", "1"))
        except Invalid as error:
            visit.problems = tuple(problem.message for problem in error.problems)
            return refusal(visit.problems[0], self._settings.facts)

    def _reads(self, visit: Visit) -> bool:
        """Return whether the server reads this body; a server that ignores JSON finds no fields in JSON."""
        kind = visit.headers.get("content-type", "")
        return self._settings.facts.json_read or not kind.startswith("application/json")

    def _note(self, visit: Visit, status: int | None) -> None:
        if not self._log.is_kept:
            return
        request = visit.request
        headers = {name: value for name, value in visit.headers.items() if name != "authorization"}
        entry = ReceivedRequest(
            method=request.method,
            path=visit.path,
            query=_query(request),
            headers=headers,
            body=describe(visit.body.fields),
            size=visit.body.size,
            status=status,
            verdict=visit.verdict,
            at=self._throttle.clock(),
            problems=visit.problems,
            fault=visit.fault.kind if visit.fault else None,
        )
        self._log.append(entry)
        self._feed.publish("request", _line(entry, visit.reason))


_RULINGS = {
    200: ("", ""), 301: ("13", "measured"), 400: ("24", "documented"), 401: ("3", "documented"),
    404: ("24", "documented"), 405: ("29", "measured"), 406: ("12", "measured"), 413: ("29", "measured"),
    415: ("4", "documented"), 422: ("24", "inferred"), 429: ("31", "measured"),
}  # fmt: skip


def _line(entry: ReceivedRequest, reason: str) -> dict[str, Any]:
    """Describe a request for the feed, without its body: its status, the reason, the ruling behind it."""
    ruling, source = ("", "") if entry.fault else _RULINGS.get(entry.status or 0, ("", ""))
    return {
        "method": entry.method,
        "path": entry.path,
        "size": entry.size,
        "status": entry.status,
        "verdict": entry.verdict,
        "at": entry.at,
        "reason": "; ".join(entry.problems[:5]) or reason,
        "fault": entry.fault,
        "ruling": ruling,
        "source": source,
    }


def _too_large(status: int) -> Answer:
    closing = {"connection": "close"}
    return Answer.of_error(status, "post_too_large_exception", "The POST data is too large.", closing)


def _unauthenticated() -> Answer:
    return Answer.of_error(401, "authentication_exception", "Unauthenticated.")


def _method_not_allowed(method: str, path: str, matches: list[Match]) -> Answer:
    allowed = ", ".join(name for match in matches for name in match.route.methods)
    message = (
        f"The {method} method is not supported for route {path.lstrip('/')}. Supported methods: {allowed}."
    )
    return Answer.of_error(405, "method_not_allowed_exception", message, {"allow": allowed})


def _headers(request: Request) -> dict[str, str]:
    """Return a request's headers by name; of a repeated one, the first, as Starlette's own look-up does.

    That look-up encodes the name and reads all headers, each time.
    """
    headers: dict[str, str] = {}
    for name, value in request.headers.raw:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def _query(request: Request) -> dict[str, str]:
    return dict(request.query_params) if request.scope["query_string"] else {}


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _phones(fields: dict[Any, Any]) -> Iterator[str]:
    """Yield the phones of a body, from each field that holds a phone in the vendor's tables."""
    rows = [fields, *(row for _, row in members(fields.get("destinations")) if is_map(row))]
    for row in rows:
        for name in ("to", "phone"):
            if isinstance(row.get(name), str):
                yield row[name]
