"""Lists that the server keeps: integrations, and templates with their cache."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import define, field

from . import _threads
from ._bucket import Lane
from ._errors import (
    APIError,
    ClientStateError,
    ConnectionFailed,
    Desk360Error,
    InvalidMessage,
    RateLimitWaitTooLong,
    UnexpectedResponse,
)
from ._messages import TemplateBatch, TemplateMessage, with_ids
from ._observer import Notice
from ._pipeline import CallState, Options, Pipeline
from ._replies import Page
from ._wire import integrations_call, stuck, templates_call

if TYPE_CHECKING:
    from ._templates import Integration, Template, Translation

T = TypeVar("T")

# Maximum number of templates in an error: the line must stay readable, and an account has dozens.
_SHOWN = 8
# Errors of the server or the network. All waiters share them; an error of one caller isn't shared.
_SHARED = (APIError, ConnectionFailed, UnexpectedResponse)

FRESH = 300.0  # seconds for which a list is used; "Best Practices" asks to cache data that hardly changes
STALE = 3600.0  # seconds for which an old list is still used, while it is refreshed in the background
RETRIED = 60.0  # seconds; if a look-up fails in a list older than this, the list is loaded again


async def pages(load: Callable[[int], Awaitable["Page[T]"]], start_page: int) -> AsyncIterator["Page[T]"]:
    """Yield page after page, as long as the server names a later page ("Pagination").

    Raises:
        UnexpectedResponse: if `next` doesn't grow; raised after the pages before it.
    """
    number = start_page
    while True:
        page = await load(number)
        yield page
        if page.following is None:
            return
        if not page.has_next:
            stuck(page)
        number = page.following


class Integrations:
    """Your WhatsApp numbers. Implements "Integrations"; reached as `client.integrations`."""

    def __init__(self, pipeline: Pipeline, options: Options) -> None:
        self._pipeline = pipeline
        self._options = options

    async def list(self, page: int = 1) -> "Page[Integration]":
        """Return one page of at most 20 integrations.

        Args:
            page: the page's number, from 1.

        Raises:
            Desk360Error: if the page can't be loaded.
        """
        page_read: Page[Integration] = await self._pipeline.operate(
            integrations_call(page), CallState(self._options)
        )
        return page_read

    def iter_pages(self, start_page: int = 1) -> AsyncIterator["Page[Integration]"]:
        """Yield page after page; each costs a request.

        Args:
            start_page: the number of the first page, from 1.

        Raises:
            Desk360Error: if a page can't be loaded; raised after the pages before it.
        """
        return pages(self.list, start_page)

    async def iter(self) -> "AsyncIterator[Integration]":
        """Yield integration after integration; each page of 20 costs a request.

        Raises:
            Desk360Error: if a page can't be loaded; raised after the integrations before it.
        """
        async for page in self.iter_pages():
            for item in page:
                yield item


@define(eq=False)
class TemplateCache:
    """One integration's templates, as last loaded; shared by a client and its views.

    Attributes:
        at: the time when the templates were requested, by the event loop's clock.
        failure: why the last attempt to load them failed.
        failed_at: the time of that failure, by the same clock.
    """

    templates: "tuple[Template, ...]" = ()
    at: float | None = None
    lock: anyio.Lock = field(factory=anyio.Lock)
    refreshing: bool = False
    failure: Desk360Error | None = None
    failed_at: float = float("-inf")

    def age(self) -> float:
        """Return the seconds since the templates were requested; infinite if they never were."""
        return float("inf") if self.at is None else anyio.current_time() - self.at


class Templates:
    """An integration's message templates. Implements "WhatsApp Message Templates".

    Reached as `client.templates`. Look-ups by name, and the checks of sends, use a cached list.
    """

    def __init__(self, pipeline: Pipeline, options: Options, caches: "dict[int, TemplateCache]") -> None:
        self._pipeline = pipeline
        self._options = options
        self._caches = caches

    async def list(self, page: int = 1) -> "Page[Template]":
        """Return one page of at most 20 templates, fresh from the server.

        Args:
            page: the page's number, from 1.

        Raises:
            Desk360Error: if the page can't be loaded.
        """
        return await self._page(page, CallState(self._options), self._options.lane)

    def iter_pages(self, start_page: int = 1) -> AsyncIterator["Page[Template]"]:
        """Yield page after page, fresh from the server; each costs a request.

        Args:
            start_page: the number of the first page, from 1.

        Raises:
            Desk360Error: if a page can't be loaded; raised after the pages before it.
        """
        return pages(self.list, start_page)

    async def iter(self) -> "AsyncIterator[Template]":
        """Yield template after template, fresh from the server; each page of 20 costs a request.

        Raises:
            Desk360Error: if a page can't be loaded; raised after the templates before it.
        """
        async for page in self.iter_pages():
            for item in page:
                yield item

    async def preload(self) -> None:
        """Load the list now, so that no send by name has to wait for it.

        Raises:
            Desk360Error: if the list can't be loaded.
        """
        await self._load(self._cache(), CallState(self._options), younger_than=0.0)

    async def get(self, id_or_name: int | str) -> "Template":
        """Return a template from the cached list.

        Args:
            id_or_name: the template's id (int) or name (str). Names are compared Unicode-normalised: exactly
                first, then case-folded.

        Raises:
            InvalidMessage: if there is no match, or more than one; the message lists the candidates.
            Desk360Error: if the list can't be loaded.
        """
        if isinstance(id_or_name, bool) or not isinstance(id_or_name, int | str):
            kind = type(id_or_name).__name__
            raise InvalidMessage("template", f"must be its id (int) or its name (str), not {kind}")
        return await self._judged(CallState(self._options), lambda known: _one(known, id_or_name))

    async def resolve(
        self, message: TemplateMessage | TemplateBatch, state: CallState
    ) -> TemplateMessage | TemplateBatch:
        """Return a message with ids in place of names, checked by the list.

        A message with ids only loads no list. It is checked only if a fresh list is cached.

        Args:
            message: the message.
            state: the state of the send; the look-up shares its waits and its stop.

        Raises:
            InvalidMessage: if the template or the language can't be sent, or parameters don't fit.
            Desk360Error: if the list can't be loaded; the message names the list.
        """
        if isinstance(message.template, int) and isinstance(message.language, int):
            self._check_known(message)
            return message

        def chosen(known: "tuple[Template, ...]") -> "tuple[Template, Translation]":
            template = _one(known, message.template)
            _check_sendable(known, template)
            translation = template.translation(message.language)
            _check_active(template, translation)
            if translation.language_id is None:
                raise InvalidMessage("language", f"{message.language!r} has no id in the list; use its id")
            return template, translation

        try:
            template, translation = await self._judged(state, chosen)
        except (*_SHARED, RateLimitWaitTooLong) as error:
            what = f"while looking up the template: {error.args[0]}; the message was not sent"
            error.args = (what, *error.args[1:])
            raise
        translation.check(message.parameters, message.attachment)
        assert translation.language_id is not None
        return with_ids(message, template.id, translation.language_id)

    async def _judged(self, state: CallState, judge: "Callable[[tuple[Template, ...]], T]") -> T:
        """Return the result of `judge` for the list.

        If `judge` refuses and the list is older than `RETRIED`, a new list decides: templates get corrected.
        """
        cache = self._cache()
        await self._refreshed(cache, state)
        try:
            return judge(cache.templates)
        except InvalidMessage:
            if cache.age() <= RETRIED:
                raise
        await self._load(cache, state, younger_than=RETRIED)
        return judge(cache.templates)

    def _check_known(self, message: TemplateMessage | TemplateBatch) -> None:
        cache = self._cache()
        if cache.age() > FRESH:
            return
        for template in _find(cache.templates, message.template):
            _check_sendable(cache.templates, template)
            for translation in template.translations:
                if translation.language_id == message.language:
                    _check_active(template, translation)
                    translation.check(message.parameters, message.attachment)

    def _cache(self) -> TemplateCache:
        return self._caches.setdefault(self._options.integration("templates"), TemplateCache())

    async def _page(self, number: int, state: CallState, lane: Lane) -> "Page[Template]":
        call = templates_call(number, self._options.integration("templates"))
        page: Page[Template] = await self._pipeline.operate(call, state, lane=lane)
        return page

    async def _refreshed(self, cache: TemplateCache, state: CallState) -> None:
        age = cache.age()
        if age > STALE:
            await self._load(cache, state, younger_than=STALE)
        elif age > FRESH and not cache.refreshing:
            cache.refreshing = True
            _threads.detach(self._refresh, cache)

    async def _refresh(self, cache: TemplateCache) -> None:
        try:
            await self._load(cache, CallState(self._options), younger_than=FRESH)
        except Exception as error:  # noqa: BLE001  # never awaited; under trio it would end the program
            # The cached list stays in use. When it is too old, a caller gets the error.
            kind = type(error).__name__
            self._pipeline.observer.notice(
                Notice(
                    "desk360.client.templates_not_refreshed",
                    "info",
                    f"templates not refreshed: {kind}",
                    {"error": kind},
                )
            )
        finally:
            cache.refreshing = False

    async def _load(self, cache: TemplateCache, state: CallState, *, younger_than: float) -> None:
        # All waiting callers share one answer, and a failure too. Otherwise a thousand callers would ask a
        # server that is down, one after the other.
        asked = anyio.current_time()
        await self._turn(cache, state)
        try:
            if cache.at is not None and (cache.at >= asked or cache.age() < younger_than):
                return
            if cache.failure is not None and cache.failed_at > asked:
                raise copy(cache.failure)
            at = anyio.current_time()

            async def load(number: int) -> "Page[Template]":
                # Other sends may wait for this list. An interactive send must not wait for a bulk look-up.
                return await self._page(number, state, "interactive")

            try:
                rows = [t async for page in pages(load, 1) for t in page]
            except _SHARED as error:
                cache.failure, cache.failed_at = copy(error), anyio.current_time()
                raise
            cache.templates, cache.at, cache.failure = tuple(rows), at, None
        finally:
            cache.lock.release()

    async def _turn(self, cache: TemplateCache, state: CallState) -> None:
        """Wait until no other caller loads the list, for at most `timeout.total` plus `max_wait`.

        `timeout.total` is the time that one request may take.
        """
        most, total = state.max_wait, self._options.timeout.total

        async def turn() -> bool:
            await cache.lock.acquire()
            return True

        began = anyio.current_time()
        with anyio.move_on_after(None if most is None else most + total):
            if await self._pipeline.wait(state, turn):
                state.waited(max(0.0, anyio.current_time() - began - total))
                return
            raise ClientStateError("stopped while it waited for the list; nothing was sent")
        assert most is not None
        raise RateLimitWaitTooLong.within(most, self._pipeline.limiter.snapshot().next_token)


def _one(known: "tuple[Template, ...]", id_or_name: int | str) -> "Template":
    found = _find(known, id_or_name)
    if len(found) == 1:
        return found[0]
    problem = "is ambiguous; use its id" if found else "is unknown"
    meant, shown = ";", found or known
    if not found and isinstance(id_or_name, str):
        from difflib import SequenceMatcher, get_close_matches  # for this error only

        word = id_or_name.casefold()
        if close := get_close_matches(word, [t.name for t in known if t.name], 1):
            meant = f"; did you mean {close[0]!r}?"
            shown = sorted(
                known, key=lambda t: -SequenceMatcher(None, word, (t.name or "").casefold()).ratio()
            )
    raise InvalidMessage("template", f"{id_or_name!r} {problem}{meant} there is: {_names(shown)}")


def _find(templates: "tuple[Template, ...]", id_or_name: int | str) -> "list[Template]":
    if isinstance(id_or_name, int):
        return [template for template in templates if template.id == id_or_name]
    from ._templates import matching

    return matching(templates, id_or_name, lambda template: template.name)


def _names(templates: "Sequence[Template]") -> str:
    more = f" … and {len(templates) - _SHOWN} more" if len(templates) > _SHOWN else ""
    return ", ".join(f"{t.name} ({t.id})" for t in templates[:_SHOWN]) + more or "none"


def _check_sendable(known: "tuple[Template, ...]", template: "Template") -> None:
    if template.sendable is False:
        others = _names([t for t in known if t.sendable is not False])
        raise InvalidMessage(
            "template", f"{template.name} ({template.id}) can't be sent; these can: {others}"
        )


def _check_active(template: "Template", translation: "Translation") -> None:
    if not translation.active:
        active = ", ".join(str(t.language) for t in template.translations if t.active) or "none"
        name = f"{translation.language} of {template.name}"
        problem = f"{name} is not active ({translation.status}); active: {active}"
        raise InvalidMessage("language", problem)
