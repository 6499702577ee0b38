"""Sends an answer as its fault demands: whole, byte by byte, half, or not at all."""

import math
import struct
import sys
from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, TypeAlias

import anyio
from attrs import frozen
from starlette.types import Receive, Scope, Send

from desk360_async.sandbox.faults import Fault
from desk360_async.sandbox.records import Answer

EXTENSION = "desk360.sandbox.transport"
ENDING = "desk360.sandbox.ending"  # a threading.Event: the server ends, so event streams must end too
Sleep: TypeAlias = Callable[[float], Awaitable[None]]
_DROP = 1
_OTHER_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"message_id":"gBEGkFBXUQ"}'
_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


async def sleep(seconds: float) -> None:
    """Wait for real seconds, as a sandbox does by default; infinity waits for ever."""
    if math.isinf(seconds):
        await anyio.sleep_forever()
    await anyio.sleep(seconds)


@frozen
class Line:
    """The connection to one client.

    Attributes:
        receive: ASGI's function of this request.
        send: ASGI's function of this request.
        sleep: waits for seconds, of real or virtual time.
        transport: the TCP connection; None in process.
    """

    receive: Receive
    send: Send
    sleep: Sleep
    transport: Any = None

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send, sleep: Sleep) -> "Line":
        """Return the line of an ASGI call."""
        return cls(receive, send, sleep, scope.get("extensions", {}).get(EXTENSION))

    async def reset(self) -> None:
        """Break the connection: RST over TCP, ConnectionResetError in process."""
        if self.transport is None:
            raise ConnectionResetError("the sandbox reset the connection, as a fault says")
        if not self.transport.is_closing():
            # With a linger time of 0 the kernel sends RST; a plain close would send FIN.
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NOT)
            self.transport.abort()
        await self._hung_up()

    async def stall(self, delay: float | None) -> None:
        """Send no byte until the client hangs up or `delay` seconds have passed; then reset."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_hung_up, tasks.cancel_scope)
            await self.sleep(math.inf if delay is None else delay)
            tasks.cancel_scope.cancel()
        await self.reset()

    async def _end_when_hung_up(self, waiting: anyio.CancelScope) -> None:
        await self._hung_up()
        waiting.cancel()

    async def _hung_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def whole(self, answer: Answer) -> None:
        """Send the complete answer."""
        await self._start(answer)
        await self._body(answer.body)

    async def drip(self, answer: Answer, delay: float) -> None:
        """Send the answer's body byte by byte, with `delay` seconds before each."""
        await self._start(answer)
        for start in range(len(answer.body)):
            await self.sleep(delay)
            await self._body(answer.body[start : start + _DROP], more=True)
        await self._body(b"")

    async def half(self, answer: Answer) -> None:
        """Send the headers and half of the body, then end the connection."""
        await self._start(answer)
        await self._body(answer.body[: len(answer.body) // 2], more=True)
        if self.transport is None:
            raise ConnectionResetError("the sandbox cut the answer in the middle, as a fault says")
        self.transport.close()
        await self._hung_up()

    async def surplus(self, answer: Answer, more: bytes) -> None:
        """Send the answer, and after it bytes that belong to no request; in process, only the answer."""
        if self.transport is not None and not self.transport.is_closing():
            head = [f"HTTP/1.1 {answer.status} OK", f"content-length: {len(answer.body)}"]
            head += [f"{name}: {value}" for name, value in answer.headers.items()]
            self.transport.write("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + answer.body + more)
            self.transport.close()
            await self._hung_up()
            return
        await self.whole(answer)

    async def _start(self, answer: Answer) -> None:
        headers = {"content-length": str(len(answer.body)), **answer.headers}
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": answer.status, "headers": encoded})

    async def _body(self, body: bytes, *, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})


async def deliver(line: Line, answer: Answer, fault: Fault | None) -> None:
    """Send an answer as the fault of this request demands; without a fault, send it whole."""
    kind, delay = (fault.kind, fault.delay) if fault else (None, None)
    if kind == "reset_after":
        await line.reset()
    elif kind == "stall":
        await line.stall(delay)
    elif kind == "drip":
        await line.drip(answer, 1.0 if delay is None else delay)
    elif kind == "surplus":
        more = fault.body if fault is not None and isinstance(fault.body, bytes) else _OTHER_ANSWER
        await line.surplus(answer, more)
    elif kind == "truncate":
        await line.half(answer)
    else:
        if kind == "slow":
            await line.sleep(1.0 if delay is None else delay)
        await line.whole(answer)
