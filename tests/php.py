"""PHP's own web server: somebody else's reading of what goes over the wire."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Php = Callable[[bytes, str], dict[str, Any]]
needs_php = pytest.mark.skipif(shutil.which("php") is None, reason="php-cli is not installed")


@contextmanager
def serving(script: Path, source: str, *options: str) -> Iterator[Php]:
    """Serve a script that echoes what it understood; give a function of a body and its content type.

    Args:
        script: where to write it.
        source: the script.
        options: PHP's settings, such as `post_max_size=128M`.
    """
    script.write_text(source)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = [word for option in ("display_errors=0", *options) for word in ("-d", option)]
    command = ["php", "-n", *settings, "-S", f"127.0.0.1:{port}", str(script)]
    with subprocess.Popen(command, cwd=script.parent, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_listening(port)
            yield lambda body, content_type: _ask(port, body, content_type)
        finally:
            process.terminate()


def _wait_until_listening(port: int) -> None:
    for _ in range(500):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("PHP's server did not start")


def _ask(port: int, body: bytes, content_type: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/", body, {"Content-Type": content_type})
        understood: dict[str, Any] = json.loads(connection.getresponse().read())
        return understood
    finally:
        connection.close()
