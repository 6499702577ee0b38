"""A vendor on raw TCP that behaves well or badly: `python -m tests.failures.tcp_vendor` prints its port.

It is written on sockets alone, so that it can break every rule of HTTP. It records each phone before it
answers. Three paths steer it: `/_mode?NAME` sets the mode of most answers, `/_modes` lists the modes, and
`/_record` returns the record once all other connections have ended.
"""

import asyncio
import gzip
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote


def template(number: int, header: str | None) -> dict[str, Any]:
    """Return a template with one variable, and perhaps with a file in its header."""
    translation = {
        "language_id": 1,
        "language": "English",
        "header_type": header and {"value": 3, "label": header},
        "body": "Hello {{1}}",
        "body_variables": [{"id": "", "key": "1", "value": "Ada"}],
        "variables": ["body-1"],
        "status_value": 2,
    }
    return {"id": number, "name": f"spring-{number}", "sendable": True, "translations": [translation]}


TEMPLATES = [template(75, None), template(76, "DOCUMENT")]
# Share of the answers in the mode that is set; some of the rest are in another one, at random.
MAIN, OTHER = 0.7, 0.1


class Record:
    """The phones that the vendor carried out, and those whose acceptance it answered.

    Attributes:
        took: phone → the number of times that it was carried out, written before the answer.
        said: the phones that a whole and right answer named, written before its last byte.
        modes: mode → the number of requests in it.
    """

    def __init__(self) -> None:
        self.took: Counter[str] = Counter()
        self.said: set[str] = set()
        self.modes: Counter[str] = Counter()


def http(body: bytes, status: int = 200, *, extra: bytes = b"", length: int | None = None) -> bytes:
    """Return the bytes of an answer; `length` is a wrong Content-Length."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (status, extra, size, body)


def chunked(body: bytes, *, last: bytes = b"0\r\n\r\n", size: bytes = b"%x") -> bytes:
    """Return the bytes of an answer in two chunks; `last` and `size` damage it."""
    halves = body[:7], body[7:]
    chunks = b"".join(size % len(half) + b"\r\n" + half + b"\r\n" for half in halves)
    return b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + last


class Exchange:
    """One request whose headers have been read, and the answer to it."""

    def __init__(
        self, record: Record, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        self.record = record
        self.reader = reader
        self.writer = writer
        self.head = head
        self.phones: list[str] = []
        self.is_bulk = b"/send/bulk" in head
        self.dice = random.Random()  # no secret

    async def read(self) -> None:
        """Read the body, and the phones in it."""
        length = re.search(rb"content-length: *(\d+)", self.head, re.IGNORECASE)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        self.phones = [phone.decode() for phone in re.findall(rb"\+905\d{9}", body)]

    def take(self) -> None:
        """Carry the request out; it can't be undone."""
        self.record.took.update(self.phones)

    def say(self, phones: list[str] | None = None) -> None:
        """Record that the answer names these phones, or all."""
        self.record.said.update(self.phones if phones is None else phones)

    async def carry_out(self) -> None:
        """Read the request, and carry it out."""
        await self.read()
        self.take()

    async def accept(self) -> bytes:
        """Carry the request out, and return the body of the right answer, which is going to be sent."""
        await self.carry_out()
        self.say()
        return self.body

    @property
    def body(self) -> bytes:
        """The body of the right answer."""
        if self.is_bulk:
            return json.dumps({"phones": self.phones}).encode()
        return json.dumps({"message_id": f"id-{''.join(self.phones)}"}).encode()

    async def send(self, *pieces: bytes, pause: float = 0.0) -> None:
        """Send pieces, with a pause between two."""
        for number, piece in enumerate(pieces):
            if number and pause:
                await asyncio.sleep(pause)
            self.writer.write(piece)
            await self.writer.drain()

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()

    def reset(self) -> None:
        """Close the connection with a RST; bytes that weren't read yet are lost at both ends."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_the_client_leaves(self) -> None:
        """Read and throw away."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Mode = Callable[[Exchange], Awaitable[None]]
MODES: dict[str, Mode] = {}


def mode(made: Mode) -> Mode:
    """Enter a mode into the table under the name of its function."""
    MODES[made.__name__] = made
    return made


def add(name: str, answer: Callable[[bytes], bytes], *, kind: str = "right", closes: bool = False) -> None:
    """Enter a mode that reads, and sends bytes made of the right answer's body.

    Args:
        name: the mode's.
        answer: the right body → the bytes to send.
        kind: "right" (carried out, and the answer says so), "wrong" (carried out, and it doesn't) or
            "refused" (not carried out).
        closes: whether the connection is closed behind the answer.
    """

    async def play(it: Exchange) -> None:
        await it.read()
        if kind != "refused":
            it.take()
        if kind == "right":
            it.say()
        await it.send(answer(it.body))
        if closes:
            it.close()

    MODES[name] = play


def error(code: str, message: str = "no") -> bytes:
    """Return the body of a documented error."""
    return json.dumps({"error": {"code": code, "message": message}}).encode()


EVIL = http(b'{"message_id": "EVIL", "phones": ["+905000000000"]}')
HTML = b"<html><body>We are back in a minute</body></html>"
GZIP = b"Content-Encoding: gzip\r\n"
CLOSE = b"Connection: close\r\n"

# Right answers, some in an unusual dress.
add("honest", http)
add("right_with_a_byte_order_mark", lambda body: http(b"\xef\xbb\xbf" + body))
add("right_until_close", lambda body: b"HTTP/1.0 200 X\r\n\r\n" + body, closes=True)
add("right_in_chunks", chunked)
add("right_in_gzip", lambda body: http(gzip.compress(body), extra=GZIP))
add("surplus_newline", lambda body: http(body) + b"\r\n")
add("surplus_notice", lambda body: http(body) + b"<br>Notice: Undefined index")
add("double_answer", lambda body: http(body) * 2)
add("another_answer_behind", lambda body: http(body) + EVIL)
add("closed_between_requests", http, closes=True)
add("continue_before", lambda body: b"HTTP/1.1 100 Continue\r\n\r\n" + http(body))
add("early_hints_before", lambda body: b"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" + http(body))
# Carried out, and not answered properly.
add("body_on_204", lambda body: b"HTTP/1.1 204 X\r\n\r\n" + http(body), kind="wrong")
add("length_too_long", lambda body: http(body, length=len(body) + 9), kind="wrong", closes=True)
add("length_too_short", lambda body: http(body, length=len(body) - 1), kind="wrong")
add("length_zero", lambda body: http(body, length=0), kind="wrong")
add("chunks_damaged", lambda body: chunked(body, size=b"z%x"), kind="wrong", closes=True)
add("chunks_cut", lambda body: chunked(body, last=b""), kind="wrong", closes=True)
add("gzip_damaged", lambda body: http(body, extra=GZIP), kind="wrong")
add("gzip_cut", lambda body: http(gzip.compress(body)[:-12], extra=GZIP), kind="wrong")
add("page_of_html", lambda _: http(HTML, extra=b"Content-Type: text/html\r\n"), kind="wrong")
add("empty_200", lambda _: http(b""), kind="wrong")
add("status_fail", lambda _: http(b'{"status": "fail", "message": "Insufficient balance"}'), kind="wrong")
add("list_of_nothing", lambda _: http(b"[]"), kind="wrong")
add("no_http", lambda _: b"SSH-2.0-OpenSSH_9.2\r\n", kind="wrong", closes=True)
add("internal_error_in_200", lambda _: http(error("internal_server_error")), kind="wrong")
add("unknown_error_in_200", lambda _: http(error("queue_full")), kind="wrong")
add("status_408", lambda _: http(b"", 408, extra=CLOSE), kind="wrong", closes=True)
add("status_500", lambda _: http(error("internal_server_error"), 500), kind="wrong")
add("status_502_html", lambda _: http(HTML, 502), kind="wrong")
add("status_504", lambda _: http(b"", 504), kind="wrong")
# Refused.
FIELD = b'{"message": "no", "errors": {"destinations.0.phone": ["The phone is invalid."]}}'
add("validation_in_200", lambda _: http(error("failed_validation", "destinations.0.phone")), kind="refused")
add("key_refused_in_200", lambda _: http(error("authentication_exception")), kind="refused")
add("body_on_304", lambda body: b"HTTP/1.1 304 X\r\n\r\n" + http(body), kind="refused")
add("status_302", lambda _: http(b"", 302, extra=b"Location: /elsewhere\r\n"), kind="refused")
add("status_401", lambda _: http(error("authentication_exception"), 401), kind="refused")
add("status_404", lambda _: http(error("not_found"), 404), kind="refused")
add("status_422", lambda _: http(FIELD, 422), kind="refused")
add("status_422_without_a_field", lambda _: http(b'{"message": "no"}', 422), kind="refused")


@mode
async def slow(it: Exchange) -> None:
    """Answer after a while."""
    body = await it.accept()
    await asyncio.sleep(0.2)
    await it.send(http(body))


@mode
async def drip(it: Exchange) -> None:
    """Answer in single bytes."""
    answer = http(await it.accept())
    await it.send(*[answer[n : n + 1] for n in range(len(answer))], pause=0.001)


@mode
async def half_an_answer(it: Exchange) -> None:
    """Reset in the middle of the answer's body."""
    await it.carry_out()
    await it.send(http(it.body)[:-6])
    await asyncio.sleep(0.01)
    it.reset()


@mode
async def half_a_head(it: Exchange) -> None:
    """Close in the middle of the answer's headers."""
    await it.carry_out()
    await it.send(http(it.body)[:20])
    it.close()


@mode
async def reset_before_reading(it: Exchange) -> None:
    """Reset with the body unread."""
    it.reset()


@mode
async def reset_after_reading(it: Exchange) -> None:
    """Carry it out, and reset."""
    await it.carry_out()
    it.reset()


@mode
async def close_after_reading(it: Exchange) -> None:
    """Carry it out, and close."""
    await it.carry_out()
    it.close()


@mode
async def half_close(it: Exchange) -> None:
    """Carry it out, and end the vendor's own side; the client's stays open."""
    await it.carry_out()
    it.writer.write_eof()
    await it.until_the_client_leaves()


@mode
async def silence(it: Exchange) -> None:
    """Carry it out, and never answer."""
    await it.carry_out()
    await it.until_the_client_leaves()
    it.close()


@mode
async def too_large_with_linger(it: Exchange) -> None:
    """Refuse before the body is read, and read the rest afterwards."""
    await it.send(http(b"", 413, extra=CLOSE))
    await it.until_the_client_leaves()
    it.close()


@mode
async def too_large_without_linger(it: Exchange) -> None:
    """Refuse before the body is read, and close; the kernel may reset."""
    await it.send(http(b"", 413, extra=CLOSE))
    it.close()


@mode
async def keep_alive_for_a_second(it: Exchange) -> None:
    """Announce that the connection ends after a second of rest, and keep that promise."""
    await it.send(http(await it.accept(), extra=b"Keep-Alive: timeout=1\r\n"))
    asyncio.get_running_loop().call_later(1.0, it.close)


async def _limited(it: Exchange, answer: bytes) -> None:
    # Each of these holds all requests up for two seconds, so they are rare.
    if it.dice.random() < 0.2:
        await it.read()
        await it.send(answer)
    else:
        await MODES["honest"](it)


@mode
async def status_429(it: Exchange) -> None:
    """Refuse with `Retry-After: 0`, now and then."""
    await _limited(it, http(b"", 429, extra=b"Retry-After: 0\r\n"))


@mode
async def limit_in_200(it: Exchange) -> None:
    """Refuse with the code of a reached limit in a 200, now and then."""
    await _limited(it, http(error("too_many_requests_exception"), extra=b"Retry-After: 1\r\n"))


@mode
async def unusable_ids(it: Exchange) -> None:
    """Answer without an id that is one, or without a list."""
    await it.carry_out()
    name = "phones" if it.is_bulk else "message_id"
    await it.send(http(json.dumps({name: it.dice.choice([None, "", {}, True])}).encode()))


async def _bulk(it: Exchange, answer: object, said: list[str]) -> None:
    it.take()
    if not it.is_bulk:
        answer, said = json.loads(it.body), it.phones
    it.say(said)
    await it.send(http(json.dumps(answer).encode()))


@mode
async def bulk_in_part(it: Exchange) -> None:
    """Carry all out, and list half of them."""
    await it.read()
    await _bulk(it, {"phones": it.phones[::2]}, it.phones[::2])


@mode
async def bulk_rows_failed(it: Exchange) -> None:
    """Carry all out, and call each second row failed."""
    await it.read()
    words = ("sent", "failed")
    rows = [{"phone": phone, "status": words[n % 2]} for n, phone in enumerate(it.phones)]
    await _bulk(it, {"phones": rows}, it.phones[::2])


@mode
async def bulk_phones_as_keys(it: Exchange) -> None:
    """List the phones as the keys of an object."""
    await it.read()
    await _bulk(it, {"phones": {phone: {"status": "sent"} for phone in it.phones}}, it.phones)


class Vendor:
    """The listening vendor.

    Args:
        seed: of the dice that choose the mode of a request.
    """

    def __init__(self, seed: int = 1) -> None:
        self.record = Record()
        self.main = "honest"
        self.port = 0
        self._dice = random.Random(seed)  # no secret
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Listen, print the port, and serve until the process is ended."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=500)
        self.port = server.sockets[0].getsockname()[1]
        print(self.port, flush=True)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await self._answer(Exchange(self.record, reader, writer, head))
                else:
                    await self._steer(head.split()[1].decode(), task, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away, or was killed
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(self, it: Exchange) -> None:
        chance = self._dice.random()
        name = self.main if chance < MAIN else "honest"
        if self.main != "honest" and chance > 1 - OTHER:
            name = self._dice.choice([*MODES])
        self.record.modes[name] += 1
        it.dice.seed(self._dice.random())
        await MODES[name](it)

    async def _steer(self, path: str, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        answer: object = TEMPLATES
        if path.startswith("/_mode?"):
            self.main = unquote(path.partition("?")[2])
        elif path == "/_modes":
            answer = [*MODES]
        elif path == "/_record":
            while self._open - {task}:  # a killed client's last request may still lie in the kernel
                await asyncio.sleep(0.01)
            answer = {"took": self.record.took, "said": [*self.record.said], "modes": self.record.modes}
        writer.write(http(json.dumps(answer).encode(), extra=CLOSE))
        await writer.drain()
        writer.close()


if __name__ == "__main__":
    asyncio.run(Vendor().serve())
