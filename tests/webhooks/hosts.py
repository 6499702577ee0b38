"""Servers in threads for the tests on real sockets: uvicorn, and aiohttp's own for aiohttp."""

import asyncio
import http.client
import importlib.util
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn


def recipe(name):
    """Load a recipe by its file, as a user would have copied it."""
    path = Path(__file__).parent / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def on_uvicorn(app):
    """Serve an ASGI application on a free port; give the port."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        # asyncio sets this on sockets that it made itself; else Nagle's algorithm costs 40 ms an answer.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(app, log_level="error", lifespan="on", ws="none", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_for(listening.getsockname()[1])
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def on_aiohttp(app):
    """Serve an aiohttp application on a free port; give the port."""
    from aiohttp import web

    ready, ports = threading.Event(), []

    async def serve():
        stop = asyncio.Event()
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.extend([runner.addresses[0][1], stop, asyncio.get_running_loop()])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(10)
    port, stop, loop = ports
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def wait_for(port):
    """Return when the server answers."""
    while True:
        try:
            request(port, "GET", "/hooks/none")
        except ConnectionError:
            continue
        else:
            return


def request(port, method, path, body=None, headers=None):
    """Make one request with the standard library's client; return the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class Connection:
    """A keep-alive connection that posts webhooks, as little of HTTP as that takes."""

    def __init__(self, port, path="/secret"):
        self._port, self._path = port, path
        self._streams = None

    async def post(self, body):
        """Post a body; return the status. A connection that broke is made anew by the next post."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(head(self._path, len(body)) + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            raise ConnectionResetError from None
        return int(answer.split(b" ", 2)[1])

    def close(self):
        """Close it at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def head(path, length):
    """Return a request's head."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n".encode()


@contextmanager
def killable(port, folder):
    """Run the server that is to be killed as a process; give the process."""
    script = Path(__file__).parent / "server_to_kill.py"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, script, str(port), folder], env=environment)
    try:
        wait_for(port)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def unmarked(folder):
    """Return the ids of the events that a folder's inbox has not marked as handled."""
    with closing(sqlite3.connect(folder / "inbox.db")) as db:
        rows = db.execute("SELECT raw FROM events WHERE handled_at IS NULL")
        return {json.loads(raw)["id"] for (raw,) in rows}


def free_port():
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
