"""A send log with a server whose answers a test chooses, without a client."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio

from desk360_async import Desk360Error, Outcome, Sent, TextMessage
from desk360_async._messages import Message
from desk360_async._replies import Reply
from desk360_async.once import SendLog

TO = "+905551112233"
HELLO = TextMessage(TO, "Hello")
Answer = Callable[[], Awaitable[Reply]]


async def accepted() -> Reply:
    """Answer as the server does when it took the message."""
    return Sent("gBEG")


def failing(outcome: Outcome) -> Answer:
    """Make an answer that raises with an outcome."""

    async def answer() -> Reply:
        raise Desk360Error("it failed", outcome=outcome)

    return answer


class Server:
    """Counts the requests that reach it, and answers them one after the other.

    Attributes:
        posts: how many requests began.
    """

    def __init__(self, *answers: Answer, seconds: float = 0.0) -> None:
        self.posts = 0
        self._answers = list(answers) or [accepted]
        self._seconds = seconds

    async def transmit(self, message: Message, intend: Any, end: Any) -> Reply:
        """Do as the client does: intend, send, and report the end."""
        began = False
        try:
            await intend(message)
            began = True
            self.posts += 1
            await anyio.sleep(self._seconds)
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            reply = await answer()
        except Desk360Error as error:
            end(error.outcome or Outcome.NOT_SENT, None)
            raise
        except BaseException:
            end(Outcome.UNKNOWN if began else Outcome.NOT_SENT, None)
            raise
        end(Outcome.ACCEPTED, reply)
        return reply


async def ask(
    log: SendLog,
    server: Server,
    message: Message = HELLO,
    *,
    key: str = "order-1",
    integration: int = 11,
    base_url: str = "https://a/v1",
    max_wait: float | None = None,
) -> Reply:
    """Ask the log to send a message under a key."""
    return await log.send(
        key,
        message,
        integration=integration,
        base_url=base_url,
        timeout=30.0,
        max_wait=max_wait,
        sleep=anyio.sleep,
        transmit=lambda intend, end: server.transmit(message, intend, end),
    )


def clock() -> datetime:
    """Return the virtual time as a date."""
    return datetime.fromtimestamp(1_800_000_000 + anyio.current_time(), UTC)
