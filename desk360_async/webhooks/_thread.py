"""A receiver for programs without an event loop: it runs in a thread of its own, with a loop of its own."""

import atexit
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future

import anyio
from anyio.from_thread import BlockingPortal

from desk360_async.webhooks._asgi import Answer
from desk360_async.webhooks._receiver import WebhookReceiver

__all__ = ["ReceiverThread"]


class ReceiverThread:
    """Runs a receiver in a thread, for WSGI apps: Flask, or Django under gunicorn ("WhatsApp Webhooks").

    The thread starts at the first request, so a server that forks its workers starts one in each of them.
    It ends with the process, after the handlers of received events have run.

    Args:
        receiver: the receiver; its handlers run in the thread's event loop.
    """

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver
        self._mutex = threading.Lock()
        self._process = 0
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def receive(
        self, secret: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST"
    ) -> Answer:
        """Take one request and return its answer; an accepted event is handled afterwards, in the thread.

        Args:
            secret: the last segment of the URL's path.
            headers: the request's headers.
            body: the request's body, at most as long as the receiver's `max_body`, in bytes.
            method: the HTTP method.

        Raises:
            ConfigurationError: if the receiver can't be opened, such as for its inbox.
        """
        portal = self._started()
        return portal.call(lambda: self._receiver.receive(secret, headers, body, method=method))

    def close(self) -> None:
        """Let the handlers of received events run, close the receiver and end the thread; safe to repeat."""
        with self._mutex:
            portal, self._portal = self._portal, None
            if portal is None or self._thread is None or self._process != os.getpid():
                return
            portal.call(portal.stop)
            self._thread.join()

    def _started(self) -> BlockingPortal:
        with self._mutex:
            if self._portal is None or self._process != os.getpid():
                opened: Future[BlockingPortal] = Future()
                # A daemon, since Python joins all other threads before it calls `close` at its exit.
                self._thread = threading.Thread(target=anyio.run, args=(self._serve, opened), daemon=True)
                self._thread.start()
                self._portal, self._process = opened.result(), os.getpid()
                atexit.register(self.close)
            return self._portal

    async def _serve(self, opened: "Future[BlockingPortal]") -> None:
        try:
            async with BlockingPortal() as portal, self._receiver:
                opened.set_result(portal)
                await portal.sleep_until_stopped()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)
