"""How the benchmarks measure: peers in turn, in one run, and ratios pair by pair.

Machines drift and are shared; a ratio of neighbours holds where milliseconds don't.
"""

import gc
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType

from benchmarks.figures import note

Run = Callable[[], Awaitable[None]]

# Packages that httpx, httpcore and ours import where they are installed; a bare environment has none of them.
OPTIONAL = (
    "brotli",
    "brotlicffi",
    "click",
    "h2",
    "orjson",
    "phonenumbers",
    "rich",
    "socksio",
    "trio",
    "zstandard",
)


HERE = Path(__file__).parent.parent


@contextmanager
def package_of(commit: str) -> Generator[Path]:
    """Yield a folder with the package as a commit has it."""
    command = ["git", "-C", str(HERE), "archive", commit, "desk360_async"]
    archive = subprocess.run(command, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def spread(values: list[float]) -> str:
    """Write the median, with the least and the most of the runs."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


async def cpu_of(run: Run) -> float:
    """Seconds of CPU that this process spends on a run."""
    gc.collect()
    before = time.process_time()
    await run()
    return time.process_time() - before


async def compare(
    figure: str,
    runs: Mapping[str, Run],
    *,
    calls: int,
    rounds: int = 9,
    goals: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Print each peer's CPU a call, and the first one's ratio to each other, pair by pair.

    Args:
        figure: the figure's number and name.
        runs: by name, each side's work; the first is ours.
        calls: number of calls in a run.
        rounds: number of rounds, in which each side runs once.
        goals: by peer, an upper bound of the ratio.
    """
    for run in runs.values():
        await run()
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            spent[name].append(await cpu_of(run))
    ours, *others = runs
    for name, values in spent.items():
        print(f"{figure}  {name:<28} {statistics.median(values) / calls * 1e6:8.1f} µs CPU a call")
    for other in others:
        ratios = [a / b for a, b in zip(spent[ours], spent[other], strict=True)]
        note(f"{figure} {ours}", ratios, goals.get(other), peer=other)


def fresh_process(code: str, cache: str, *arguments: str, package: Path | None = None) -> list[float]:
    """Return the numbers that a program prints, run in an interpreter of its own as in a bare environment.

    Byte code is cached first, as it is for an installed package.

    Args:
        code: the program.
        cache: a folder for the byte code; the first run with it fills it.
        arguments: the program's own.
        package: the folder of the package; None: this checkout's, or the installed one.
    """
    bare = f"import sys\nfor name in {OPTIONAL!r}:\n    sys.modules[name] = None\n"
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = cache
    if package is not None:
        environ["PYTHONPATH"] = str(package)
    command = [sys.executable, "-c", bare + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, cwd=package)
    return [float(number) for number in done.stdout.split()]


@contextmanager
def answering(body: bytes) -> Generator[str]:
    """Run a bare HTTP server in another process, so that its CPU is not counted; give its URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, body), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, body: bytes) -> None:
    import asyncio

    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-Limit: 10000\r\n"
        b"X-RateLimit-Remaining: 9999\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    )

    class Answers(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.buffer = b""

        def data_received(self, data: bytes) -> None:
            self.buffer += data
            while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
                head = self.buffer[:end].lower()
                at = head.find(b"content-length:")
                length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
                if len(self.buffer) < end + 4 + length:
                    return
                self.buffer = self.buffer[end + 4 + length :]
                self.transport.write(answer)  # type: ignore[attr-defined]  # a TCP server's is writable

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())
