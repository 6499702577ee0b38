"""Random stories of customers and sends in virtual time, compared with a model.

    python -m tests.customers.stories 10000

prints the figures. A story has three people who write, opt out and opt in, in any order of arrival, while the
client sends to them under "enforce".
"""

import logging
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta

import anyio
from attrs import define, field

from desk360_async import AsyncDesk360, OptedOut, TemplateMessage, TokenBucket, WindowClosed
from desk360_async.customers import Customers
from desk360_async.testing import VirtualSandbox
from desk360_async.webhooks import TextReceived

STEPS = 14
WORDS = {
    "text": ("Merhaba", "stop, the man isn't here", "Teşekkürler"),
    "out": ("STOP", "iptal!", "إلغاء"),
    "in": ("START", "Başla"),
}


@define
class Model:
    """The rules in their plainest form: all facts about one person, in the order in which they came."""

    heard: datetime | None = None
    opted_out: bool = False
    wishes: list[datetime] = field(factory=list[datetime])
    ids: set[str] = field(factory=set[str])

    def feed(self, kind: str, sent_at: datetime, identity: str) -> None:
        """A message came in."""
        self.heard = sent_at if self.heard is None else max(self.heard, sent_at)
        if kind == "text" or identity in self.ids or any(sent_at < wish for wish in self.wishes):
            return
        self.ids.add(identity)
        self.wishes.append(sent_at)
        self.opted_out = kind == "out"

    def is_closed(self, now: datetime) -> bool:
        """Whether the window is known to be closed."""
        return self.heard is not None and now - self.heard >= timedelta(hours=24)


class Story:
    """One story: people of its own, and a model of each."""

    def __init__(self, number: int, sandbox: VirtualSandbox, client: AsyncDesk360, book: Customers) -> None:
        self.random = random.Random(number)
        self.sandbox, self.client, self.book = sandbox, client, book
        self.people = {f"+90{5_550_000_001 + 3 * number + n}": Model() for n in range(3)}
        self.late: list[tuple[str, str, TextReceived]] = []
        self.seen: Counter[str] = Counter()

    async def play(self) -> Counter[str]:
        """Play all steps; return the number of each event.

        Raises:
            AssertionError: if a message went out against the model, or none where it allows one.
        """
        steps = (self.write, self.write, self.arrive, self.pass_time, self.person_decides)
        sends = (self.send_text, self.send_text, self.send_template, self.send_bulk, self.race)
        for _ in range(STEPS):
            await self.random.choice(steps)()
            await self.random.choice(sends)()
        return self.seen

    def _person(self) -> tuple[str, Model]:
        return self.random.choice(list(self.people.items()))

    def _sent(self, phone: str) -> int:
        return len(self.sandbox.sent(to=phone))

    async def write(self) -> None:
        """A customer writes; the webhook comes at once, later, or twice."""
        self.sandbox.advance(seconds=self.random.randint(1, 3600))
        phone, _ = self._person()
        kind = self.random.choice(("text", "text", "out", "in"))
        text = self.random.choice(WORDS[kind])
        identity = f"{phone}/{self.sandbox.now().timestamp()}"
        event = TextReceived(id=identity, sender=phone[1:], text=text, sent_at=self.sandbox.now())
        if self.random.random() < 0.25:
            self.late.append((phone, kind, event))
            return
        await self._feed(phone, kind, event)
        if self.random.random() < 0.2:
            self.late.append((phone, kind, event))

    async def arrive(self) -> None:
        """A late webhook, or a repeat, comes in."""
        if self.late:
            await self._feed(*self.late.pop(self.random.randrange(len(self.late))))

    async def _feed(self, phone: str, kind: str, event: TextReceived) -> None:
        assert event.sent_at is not None
        await self.book.feed(event)
        self.people[phone].feed(kind, event.sent_at, event.id)
        self.seen[f"fed: {kind}"] += 1

    async def pass_time(self) -> None:
        """Hours go by."""
        self.sandbox.advance(hours=self.random.choice((1, 6, 23, 24, 25)))

    async def person_decides(self) -> None:
        """An employee opts a customer out or in."""
        self.sandbox.advance(seconds=1)
        phone, model = self._person()
        if self.random.random() < 0.5:
            await self.book.opt_out(phone)
            model.opted_out = True
            model.wishes.append(self.sandbox.now())
        else:
            await self.book.opt_in(phone)
            model.opted_out = False

    async def send_text(self) -> None:
        """A free message, with or without a fallback."""
        phone, model = self._person()
        fallback = None
        if self.random.random() < 0.5:
            fallback = TemplateMessage(phone, "welcome", language="English")
        closed, before = model.is_closed(self.sandbox.now()), self._sent(phone)
        try:
            await self.client.send_text(phone, "x", fallback=fallback)
        except (WindowClosed, OptedOut) as error:
            assert closed, "refused inside the window"
            assert fallback is None or model.opted_out, "a fallback was refused to a person who may get it"
            assert self._sent(phone) == before, "refused, and sent all the same"
            self.seen[f"text: {type(error).__name__}"] += 1
        else:
            kind = self.sandbox.sent(to=phone)[-1].kind
            assert kind == ("template" if closed else "text"), "a free message outside the window"
            assert not (closed and model.opted_out), "a template to an opted-out person"
            self.seen[f"text: sent as {kind}"] += 1

    async def send_template(self) -> None:
        """A template to one person."""
        phone, model = self._person()
        before = self._sent(phone)
        try:
            await self.client.send_template(phone, "welcome", language="English")
        except OptedOut:
            assert model.opted_out, "refused to a person who may get it"
            assert self._sent(phone) == before, "refused, and sent all the same"
            self.seen["template: OptedOut"] += 1
        else:
            assert not model.opted_out, "a template to an opted-out person"
            self.seen["template: sent"] += 1

    async def send_bulk(self) -> None:
        """A template to all three."""
        out = {phone for phone, model in self.people.items() if model.opted_out}
        before = {phone: self._sent(phone) for phone in self.people}
        try:
            reply = await self.client.send_template_bulk(list(self.people), "welcome", language="English")
            assert set(reply.opted_out) == out, "other people were left out"
        except OptedOut:
            assert len(out) == len(self.people), "refused though somebody is left"
        got = {phone for phone in self.people if self._sent(phone) > before[phone]}
        assert got == set(self.people) - out, "a template to an opted-out person, or none to another"
        self.seen[f"bulk: {len(out)} left out"] += 1

    async def race(self) -> None:
        """An opt-out comes in while a template is being sent: either may be first, and both end."""
        self.sandbox.advance(seconds=1)
        phone, model = self._person()
        now = self.sandbox.now()
        event = TextReceived(id=f"{phone}/{now.timestamp()}", sender=phone[1:], text="STOP", sent_at=now)
        was_out, before = model.opted_out, self._sent(phone)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._feed, phone, "out", event)
            tasks.start_soon(self._try_template, phone)
        went = self._sent(phone) - before
        assert not (was_out and went), "a template to an opted-out person"
        self.seen[f"race: {'sent' if went else 'refused'}"] += 1

    async def _try_template(self, phone: str) -> None:
        with suppress(OptedOut):
            await self.client.send_template(phone, "welcome", language="English")


async def play(first: int, number: int) -> Counter[str]:
    """Play stories; return the number of each event."""
    seen: Counter[str] = Counter()
    sandbox = VirtualSandbox(limit=10_000, keep=200)
    async with Customers(":memory:") as book:
        limiter = TokenBucket(10_000, 60.0)
        async with sandbox.client(customers=book, limiter=limiter, service_window="enforce") as client:
            for story in range(first, first + number):
                seen += await Story(story, sandbox, client, book).play()
    return seen


def main() -> None:
    """Play as many stories as the command line says, and print the figures."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    logging.getLogger("desk360_async").setLevel(logging.ERROR)  # the warnings of people who never wrote
    began = time.perf_counter()
    seen: Counter[str] = Counter()
    for first in range(0, number, 100):
        seen += anyio.run(play, first, min(100, number - first))
    print(f"{number:,} stories in {time.perf_counter() - began:.0f} s, no difference from the model")
    for name, count in sorted(seen.items()):
        print(f"  {name:24} {count:>9,}")


if __name__ == "__main__":
    main()
