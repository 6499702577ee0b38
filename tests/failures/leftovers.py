"""Bytes that a server leaves behind its answers: `python -m tests.failures.leftovers --sends 10000`.

No send may take another's answer for its own, and a proper answer must be read. Each outcome is compared with
the bytes that the server sent for that very message.
"""

import argparse
import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

from attrs import define, field

from desk360_async import AsyncDesk360, Outcome, RetryPolicy, SendResult, TextMessage, TokenBucket

TO = "+905551112233"
Answer = Callable[[str], bytes]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, *, status: int = 200, length: int | None = None, extra: bytes = b"") -> bytes:
    """Return the bytes of an answer; `length` is a wrong Content-Length."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, extra, size, body)


@asynccontextmanager
async def serving(handle: Handle, **options: Any) -> AsyncIterator[AsyncDesk360]:
    """Serve connections, and yield a client of that server."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def until_it_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(until_it_ends, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limiter = TokenBucket(10_000, 1.0)
    async with AsyncDesk360(
        "key", integration_id=1, base_url=url, limiter=limiter, retry=RetryPolicy(attempts=1), **options
    ) as client:
        yield client
    server.close()
    await asyncio.gather(*filter(None, tasks))


def answering(answer: Answer) -> Handle:
    """Return a server's connection handler; `answer` gets the request's text and returns raw bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length[1])) if length else b""
            writer.write(answer(re.findall(rb"text-[0-9]+", body)[0].decode()))
            await writer.drain()

    return handle


EVIL = http(b'{"message_id": "EVIL"}')
SURPLUS = (
    b"\r\n",
    b"<br>Notice: Undefined index",
    b"HTTP/1.1 ",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"0\r\n\r\n",
)


def answers(seed: int) -> Answer:
    """Return a server's answers: few are plain, most break the rules of where an answer ends."""
    dice = random.Random(seed)  # no secret

    def own(text: str) -> bytes:
        body = b'{"message_id": "%s"}' % text.encode()
        if dice.random() < 0.7:
            return http(body)
        halves = body[:5], body[5:]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves)
        return b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    def surplus() -> bytes:
        pieces = (*SURPLUS, EVIL, dice.randbytes(dice.randrange(1, 200)))
        return b"".join(dice.choice(pieces) for _ in range(dice.randrange(1, 4)))

    def improper(text: str) -> bytes:
        body = b'{"message_id": "%s"}' % text.encode()
        status = dice.choice((400, 404, 408, 422, 500, 502, 503))
        return dice.choice(
            (
                http(b"", status=status) + EVIL,
                http(b"", status=429, extra=b"Retry-After: 99\r\n") + EVIL,
                b"HTTP/1.1 204 X\r\n\r\n" + EVIL,
                b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\nhello",
                b"HTTP/1.1 304 X\r\n\r\n" + body + EVIL,
                b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\nhello",
                http(body, length=dice.randrange(len(body))) + dice.choice((b"", EVIL)),
                http(b"") + http(body),
                http(body, length=len(body) + dice.randrange(1, 9)) + EVIL,
            )
        )

    def answer(text: str) -> bytes:
        kind = dice.random()
        if kind < 0.2:
            return own(text)
        if kind < 0.4:
            return http(b'{"message_id": "%s"}' % text.encode()) * dice.randrange(2, 4)
        return own(text) + surplus() if kind < 0.7 else improper(text)

    return answer


@define
class Score:
    """The outcomes of all sends, beside the server's record.

    Attributes:
        sends: the number of sends.
        proper: those that the server answered properly.
        accepted: those called accepted.
        falsely_accepted: those called accepted without a proper answer, or with another's id.
        needlessly_unknown: those answered properly, and not called accepted.
        wrong: a line for each of the last two kinds.
    """

    sends: int = 0
    proper: int = 0
    accepted: int = 0
    falsely_accepted: int = 0
    needlessly_unknown: int = 0
    wrong: list[str] = field(factory=list[str])

    def take(self, result: SendResult, sent: bytes) -> None:
        """Compare a result with the bytes that the server sent for its message."""
        text = result.message.text  # type: ignore[union-attr]  # only texts are sent
        proper = is_proper(sent, text)
        accepted = result.outcome is Outcome.ACCEPTED
        own = accepted and getattr(result.reply, "message_id", None) == text
        self.sends += 1
        self.proper += proper
        self.accepted += accepted
        self.falsely_accepted += accepted and not (proper and own)
        self.needlessly_unknown += proper and not accepted
        if accepted != proper or accepted != own:
            self.wrong.append(f"{text}: {result.reply or result.error!r} for {sent!r}")

    def __str__(self) -> str:
        return (
            f"{self.sends} sends, {self.proper} answered properly, {self.accepted} accepted: "
            f"{self.falsely_accepted} falsely accepted, "
            f"{self.needlessly_unknown} not accepted that the server had answered properly"
        )


def is_proper(sent: bytes, text: str) -> bool:
    """Return whether bytes begin with a whole answer that holds the message's own id."""
    body = b'{"message_id": "%s"}' % text.encode()
    in_chunks = sent.startswith(b"HTTP/1.1 200 X\r\nTransfer-Encoding")
    return in_chunks or sent.startswith(http(body))


class _Ticket:
    def done(self, status: int, headers: Any) -> None: ...
    def lost(self) -> None: ...
    def unused(self) -> None: ...


async def _at_once(*_: object) -> _Ticket:
    return _Ticket()


async def run(sends: int, seed: int) -> Score:
    """Send messages over four connections, and compare each outcome; a 429 holds up no other send."""
    score = Score()
    sent: dict[str, bytes] = {}
    made = answers(seed)

    def answer(text: str) -> bytes:
        sent[text] = made(text)
        return sent[text]

    with mock.patch.object(TokenBucket, "acquire", _at_once):
        async with serving(answering(answer), max_connections=4, timeout=5.0) as client:
            fresh = client.with_options(retry=RetryPolicy(attempts=1, max_retry_after=0))
            messages = (TextMessage(TO, f"text-{n}") for n in range(sends))
            async with fresh.send_each(messages, concurrency=4, lane="interactive") as results:
                async for result in results:
                    score.take(result, sent.get(result.message.text, b""))
    return score


def main() -> int:
    """Send, and print the counts and the first wrong outcomes; 1 if there is one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sends", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    score = asyncio.run(run(given.sends, given.seed))
    print(*score.wrong[:9], score, sep="\n")
    return int(bool(score.wrong) or score.sends != given.sends)


if __name__ == "__main__":
    sys.exit(main())
