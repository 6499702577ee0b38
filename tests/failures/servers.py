"""Scripted servers on loopback ports: they do what a script says, and remember every byte they got.

A server here is no HTTP server: it is the other end of a socket, so that it can stop in the middle of
anything. What arrived is counted by h11's server side, not by us.
"""

import datetime
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Self

import h11
import trustme

Script = Callable[["Wire"], None]


class Wire:
    """One accepted connection, as a script sees it.

    Attributes:
        received: the bytes that came, inside TLS once that is up.
    """

    def __init__(self, server: "Server", sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.received = bytearray()
        self._read = 0
        sock.settimeout(10)

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands; what came before isn't part of what is counted."""
        self.received.clear()
        self._read = 0
        self.sock = context.wrap_socket(self.sock, server_side=True)

    def _more(self) -> bytes:
        piece = self.sock.recv(65536)
        self.received += piece
        return piece

    def read_head(self) -> bytes:
        """Read up to the blank line behind the next request's headers."""
        while b"\r\n\r\n" not in self.received[self._read :]:
            if not self._more():
                raise ConnectionError("closed by the client")
        end = self.received.index(b"\r\n\r\n", self._read) + 4
        head = bytes(self.received[self._read : end])
        self._read = end
        return head

    def read_request(self) -> bytes:
        """Read one request, with its body; return its headers."""
        head = self.read_head()
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line[:15] == b"content-length:"
            ),
            0,
        )
        while len(self.received) < self._read + length:
            if not self._more():
                raise ConnectionError("closed by the client")
        self._read += length
        return head

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self.sock.sendall(data)

    def take(self) -> None:
        """Do what the request asks for: from now on it can't be undone."""
        self.server.took += 1

    def cue(self) -> None:
        """Tell the test that this point is reached."""
        self.server.cue.set()

    def hold(self, seconds: float = 10) -> None:
        """Wait until the test is over."""
        self.server.over.wait(seconds)

    def close(self) -> None:
        """Close with a FIN, the sending side first, so that what was sent arrives."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def drain(self) -> None:
        """Read what the kernel still holds for us; it was delivered, whether or not anybody looked."""
        try:
            self.sock.settimeout(0.3)
            while self._more():
                pass
        except (OSError, ValueError):
            pass
        self.sock.close()


class Server:
    """A listening socket, and a thread for each connection that runs the script.

    Attributes:
        took: how many requests the script says it carried out.
        wires: the connections, in the order in which they came.
        cue: set when a script reaches its cue.
        over: set when the test is over.
    """

    def __init__(self, script: Script, *, backlog: int = 50) -> None:
        self.script = script
        self.took = 0
        self.wires: list[Wire] = []
        self.cue = threading.Event()
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(backlog)
        self.port: int = self._socket.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all scripts, and read what is left on their connections."""
        self.over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            wire = Wire(self, sock)
            self.wires.append(wire)
            thread = threading.Thread(target=self._run, args=(wire,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, wire: Wire) -> None:
        try:
            self.script(wire)
        except (OSError, ValueError):
            pass  # the client went away: what it sent is what counts
        finally:
            self.over.wait(10)
            wire.drain()

    @property
    def arrived(self) -> int:
        """How many whole requests arrived."""
        return sum(_whole_requests(bytes(wire.received)) for wire in self.wires)

    @property
    def touched(self) -> int:
        """On how many connections at least a byte of a request arrived."""
        return sum(bool(wire.received) for wire in self.wires)


def _whole_requests(received: bytes) -> int:
    if not received:
        return 0  # h11 would take it for the end of the connection
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    parser.receive_data(received)
    count = 0
    try:
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.EndOfMessage):
                count += 1
                parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
    except h11.ProtocolError:
        pass
    return count


# ── certificates ───────────────────────────────────────────────────────────────────────────────────────


@cache
def authority() -> trustme.CA:
    """Return the authority that the client trusts."""
    return trustme.CA()


@cache
def server_context(kind: str) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate that is good, or bad in one way."""
    now = datetime.datetime.now(datetime.UTC)
    ca = trustme.CA() if kind in ("self-signed", "unknown authority") else authority()
    if kind == "expired":
        issued = ca.issue_cert(
            "127.0.0.1", not_before=now - datetime.timedelta(9), not_after=now - datetime.timedelta(1)
        )
    else:
        issued = ca.issue_cert("elsewhere.example" if kind == "wrong host" else "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if kind == "self-signed":
        with ca.cert_pem.tempfile() as path, ca.private_key_pem.tempfile() as key:
            context.load_cert_chain(path, key)
    else:
        issued.configure_cert(context)
    if kind == "client certificate":
        context.verify_mode = ssl.CERT_REQUIRED
        ca.configure_trust(context)
    if kind == "old protocol":
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@cache
def client_context(*, newest_only: bool = False) -> ssl.SSLContext:
    """Return the client's side of TLS, which trusts our authority alone."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if newest_only:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
