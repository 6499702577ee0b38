"""The WhatsApp rules that may refuse a message: the 24-hour window of free messages, and opt-outs.

This module has only the rules. The facts come from the customers' store in `desk360_async.customers`. A
message is checked before it waits for a token. It is checked again when it has the token, since the wait may
last for hours.
"""

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Literal, Protocol, TypeAlias, TypeVar

from attrs import evolve

from ._errors import InvalidMessage, OptedOut, WindowClosed, mask_phone
from ._messages import Message, TemplateBatch, TemplateMessage, phones_of
from ._observer import Notice, Observer
from ._phones import person_of
from ._pipeline import Store
from ._replies import BulkSent

ServiceWindow: TypeAlias = Literal["enforce", "warn", "off"]

R = TypeVar("R")


class _Window(Protocol):
    @property
    def state(self) -> str: ...
    @property
    def ends(self) -> datetime | None: ...


class _OptOuts(Protocol):
    def since(self, phone: str | int, /) -> datetime | None: ...


class CustomerBook(Store, Protocol):
    """The customers' store: `desk360_async.customers.Customers`, which this module can't import."""

    def now(self) -> datetime:
        """Return the current time."""
        ...

    async def window(self, phone: str, /) -> _Window:
        """Return a person's service window, with `state` and `ends`."""
        ...

    async def opt_outs(self) -> _OptOuts:
        """Return the people who opted out, with `since(phone)`."""
        ...


def check_fallback(message: Message, fallback: object) -> None:
    """Check that the message is free, and that its fallback is a template to the same person.

    Raises:
        InvalidMessage: if the message or the fallback doesn't fit.
    """
    if not isinstance(fallback, TemplateMessage):
        raise InvalidMessage("fallback", f"must be a TemplateMessage, not {type(fallback).__name__}")
    if isinstance(message, TemplateMessage | TemplateBatch):
        raise InvalidMessage("fallback", "is for free messages; a template needs none")
    if person_of(fallback.to) != person_of(message.to):
        problem = f"goes to {mask_phone(fallback.to)}, the message to {mask_phone(message.to)}; use one phone"
        raise InvalidMessage("fallback", problem)


class Admission:
    """Admits messages or refuses them, by the facts in a customers' store.

    Args:
        book: the store.
        service_window: "enforce" refuses free messages outside the window, "warn" logs them, "off" admits
            all free messages. Opt-outs are respected in each case.
        observer: gets a notice of a free message that may not arrive.
    """

    def __init__(self, book: CustomerBook, service_window: ServiceWindow, observer: Observer) -> None:
        self.book = book
        self._observer = observer
        self._service_window = service_window
        self._warned: set[int] = set()
        self._warned_on: date | None = None

    async def admit(self, message: Message) -> tuple[Message, tuple[str, ...]]:
        """Return the admitted message, and the phones of opted-out people that are left out of it.

        Args:
            message: the message; the content of its destinations file, if any, must be loaded.

        Raises:
            WindowClosed: the message is free and the person's window is closed, under "enforce".
            OptedOut: the message is a template, and all its recipients have opted out.
        """
        if not isinstance(message, TemplateMessage | TemplateBatch):
            await self._check_window(message)
            return message, ()
        opt_outs = await self.book.opt_outs()
        phones = phones_of(message)
        left_out = tuple(phone for phone in phones if opt_outs.since(phone) is not None)
        if not left_out:
            return message, ()
        if isinstance(message, TemplateMessage) or len(left_out) == len(phones):
            since = opt_outs.since(left_out[0])
            assert since is not None
            raise OptedOut(left_out[0], since=since)
        without = set(left_out)
        kept = tuple(phone for phone in phones if phone not in without)
        return _with_phones(message, kept), left_out

    async def recheck(self, message: Message) -> None:
        """Check an admitted message again when it has its token.

        Raises:
            WindowClosed: the window has closed meanwhile, under "enforce".
            OptedOut: a recipient of a template has opted out meanwhile.
        """
        if not isinstance(message, TemplateMessage | TemplateBatch):
            if self._service_window == "enforce":
                await self._check_window(message)
            return
        opt_outs = await self.book.opt_outs()
        for phone in phones_of(message):
            since = opt_outs.since(phone)
            if since is not None:
                raise OptedOut(phone, since=since)

    async def deliver(
        self,
        message: Message,
        fallback: TemplateMessage | None,
        send: Callable[[Message, Callable[[], Awaitable[None]]], Awaitable[R]],
    ) -> R:
        """Send a message to the recipients that the rules allow, or send its fallback.

        Args:
            message: the message; the content of its destinations file, if any, must be loaded.
            fallback: the template that is sent in place of a free message outside the window.
            send: sends a message; it awaits its second argument when it has the token.

        Raises:
            WindowClosed: the message is free, its window is closed, and it has no fallback.
            OptedOut: the message is a template, and all its recipients have opted out.
        """
        while True:
            try:
                admitted, left_out = await self.admit(message)

                async def recheck(admitted: Message = admitted) -> None:
                    await self.recheck(admitted)

                reply = await send(admitted, recheck)
            except WindowClosed:
                if fallback is None:
                    raise
                message, fallback = fallback, None
            except OptedOut:
                if not isinstance(message, TemplateBatch) or await self._all_opted_out(message):
                    raise
            else:
                if left_out and isinstance(reply, BulkSent):
                    return evolve(reply, opted_out=left_out)
                return reply

    async def _all_opted_out(self, message: TemplateBatch) -> bool:
        opt_outs = await self.book.opt_outs()
        return all(opt_outs.since(phone) is not None for phone in phones_of(message))

    async def _check_window(self, message: Message) -> None:
        if self._service_window == "off":
            return
        (phone,) = phones_of(message)
        window = await self.book.window(phone)
        if window.state == "open":
            return
        if window.state == "closed" and self._service_window == "enforce":
            raise WindowClosed(phone, since=window.ends)
        self._warn(phone, window.ends)

    def _warn(self, phone: str, ended: datetime | None) -> None:
        """Log, once a day for each phone, that WhatsApp may drop a free message."""
        today, person = self.book.now().date(), person_of(phone)
        if self._warned_on != today:
            self._warned_on = today
            self._warned.clear()
        if person in self._warned:
            return
        self._warned.add(person)
        why = f"the window closed at {ended:%Y-%m-%d %H:%M} UTC" if ended else "no message is stored"
        text = (
            f"a free message to {mask_phone(phone)} may not arrive: {why}; WhatsApp takes only templates "
            "until the customer writes"
        )
        facts = {"window": "closed" if ended else "unknown"}
        self._observer.notice(Notice("desk360.client.window_closed", "warning", text, facts))


def _with_phones(message: TemplateBatch, phones: tuple[str, ...]) -> TemplateBatch:
    """Return the batch with these phones; as a destinations file if the batch had such a file."""
    if message.destinations_file is None:
        return evolve(message, phones=phones)
    from ._uploads import destinations_file

    return evolve(message, destinations_file=destinations_file(phones))
