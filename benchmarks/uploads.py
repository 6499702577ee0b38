"""P7: five files of 20 MB go up: where they are read, how long it takes, what else gets to run meanwhile.

Beside httpx with open files and aiohttp's FormData, on a disk that is fast and on one whose reads take 5 ms.

Run: python -m benchmarks.uploads
"""

import asyncio
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from io import FileIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import httpx

from benchmarks.figures import note
from benchmarks.side_by_side import spread
from desk360_async import AsyncDesk360, TokenBucket, _uploads

FILES, SIZE = 5, 20 * 1024 * 1024
ROUNDS = 5
SLOW_READ = 0.005  # seconds
TO = "+905551112233"
ANSWER = b'{"medias":{"documents":[{"message_id":"m","media_id":"i"}]}}'

Upload = Callable[[], Awaitable[None]]


class Watched(FileIO):
    """A file that notes in which thread it is read, and takes its time."""

    readers: ClassVar[Counter[int]] = Counter()
    delay = 0.0

    def read(self, size: int | None = -1, /) -> Any:
        """Read, late."""
        Watched.readers[threading.get_ident()] += 1
        if Watched.delay:
            time.sleep(Watched.delay)
        return super().read(-1 if size is None else size)


@contextmanager
def watching(folder: Path) -> Generator[Counter[str]]:
    """Count the file calls of our uploads that are made on this thread: opening, asking, reading, closing."""
    loop = threading.get_ident()
    on_loop: Counter[str] = Counter()
    opener, fstat = _uploads._open, os.fstat

    def watched(file: Any, path: Path) -> FileIO:
        opener(file, path).close()
        return Watched(path)

    def asked(number: int) -> os.stat_result:
        on_loop["stat"] += threading.get_ident() == loop
        return fstat(number)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(str(folder)):
            on_loop["open"] += threading.get_ident() == loop

    sys.addaudithook(audit)
    _uploads._open, os.fstat = watched, asked
    try:
        yield on_loop
    finally:
        _uploads._open, os.fstat = opener, fstat


@contextmanager
def swallowing() -> Generator[str]:
    """Run a server in another process that reads bodies and forgets them; give its URL."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_swallow, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _swallow(pipe: Connection) -> None:
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname()[1])
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: Any) -> None:
    room = memoryview(bytearray(1 << 20))
    head = b""
    while count := connection.recv_into(room):
        head += room[:count]
        end = head.find(b"\r\n\r\n")
        if end < 0:
            continue
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        left = length - (len(head) - end - 4)
        while left > 0:
            left -= connection.recv_into(room)
        head = b""
        fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(ANSWER)
        connection.sendall(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (fields, ANSWER))


def memory() -> dict[str, int]:
    """Return the memory in use and its peak, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}


def extra_memory(peer: str, url: str, folder: Path) -> float:
    """Return by how many MB a first upload raises the peak of a process that has sent a small one."""

    async def main() -> float:
        async with opened(url) as clients:
            await peers(url, [folder / "small.mp4"], *clients)[peer]()
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            before = memory()["VmRSS"]
            await peers(url, files_in(folder), *clients)[peer]()
            return (memory()["VmHWM"] - before) / 1e6

    return asyncio.run(main())


async def heartbeat(work: Awaitable[object]) -> float:
    """Milliseconds by which one heartbeat in a hundred, of 2 ms each, is late while something works."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            late.append(time.perf_counter() - before - 0.002)

    heart = asyncio.create_task(beat())
    await work
    heart.cancel()
    return sorted(late)[int(len(late) * 0.99)] * 1000 if late else float("inf")


async def measure(name: str, uploads: Mapping[str, Upload], rounds: int) -> None:
    """Print the time and the heartbeat of each, and the ratios of ours to the others."""
    for upload in uploads.values():
        await upload()
    spent: dict[str, list[float]] = {peer: [] for peer in uploads}
    beats: dict[str, list[float]] = {peer: [] for peer in uploads}
    idle: list[float] = []
    for _ in range(rounds):
        idle.append(await heartbeat(asyncio.sleep(0.5)))
        for peer, upload in uploads.items():
            began = time.perf_counter()
            await upload()
            spent[peer].append(time.perf_counter() - began)
            beats[peer].append(await heartbeat(upload()))
    print(f"P7  {name}, idle     heartbeat p99 {spread(idle)} ms late")
    for peer in uploads:
        seconds = statistics.median(spent[peer])
        print(f"P7  {name}, {peer:<8} heartbeat p99 {spread(beats[peer])} ms late; {seconds:.2f} s")
    ours, *others = uploads
    for other in others:
        ratios = [a / b for a, b in zip(spent[ours], spent[other], strict=True)]
        note(f"P7 {name}, time", ratios, 1.0 if other == "httpx" else None, peer=other)


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[tuple[AsyncDesk360, httpx.AsyncClient, aiohttp.ClientSession]]:
    """Open a client of each kind; ours with a limiter that never makes it wait."""
    limiter = TokenBucket(10_000, 0.001, margin=0.0)
    async with (
        AsyncDesk360("key", integration_id=11, base_url=url, limiter=limiter) as ours,
        httpx.AsyncClient(timeout=60) as theirs,
        aiohttp.ClientSession() as session,
    ):
        yield ours, theirs, session


def files_in(folder: Path) -> list[Path]:
    """Return the large files."""
    return [folder / f"{number}.mp4" for number in range(FILES)]


def peers(
    url: str,
    paths: list[Path],
    ours: AsyncDesk360,
    theirs: httpx.AsyncClient,
    session: aiohttp.ClientSession,
) -> dict[str, Upload]:
    """Return the same upload by each."""
    target = f"{url}/v1/integrations/11/conversations/messages/medias"

    async def with_ours() -> None:
        await ours.send_media(TO, paths)

    async def with_httpx() -> None:
        with ExitStack() as stack:
            files = [("attachments[]", (p.name, stack.enter_context(Watched(p)), "video/mp4")) for p in paths]
            (await theirs.post(target, data={"to": TO}, files=files)).raise_for_status()

    async def with_aiohttp() -> None:
        with ExitStack() as stack:
            form = aiohttp.FormData({"to": TO})
            for path in paths:
                file = stack.enter_context(Watched(path))
                form.add_field("attachments[]", file, filename=path.name, content_type="video/mp4")
            async with session.post(target, data=form) as response:
                response.raise_for_status()

    return {"ours": with_ours, "httpx": with_httpx, "aiohttp": with_aiohttp}


async def main(url: str, folder: Path) -> None:
    """Print where the files are read, and how long each peer takes."""
    with watching(folder) as on_loop:
        async with opened(url) as clients:
            uploads = peers(url, files_in(folder), *clients)
            await uploads["ours"]()
            on_loop["read"] = Watched.readers[threading.get_ident()]
            elsewhere = Watched.readers.total() - on_loop["read"]
            print(f"P7  file calls on the loop's thread: {on_loop.total()} {dict(+on_loop) or ''}")
            print(f"P7  reads in other threads: {elsewhere}")
            await measure("fast reads", uploads, ROUNDS)
            Watched.delay = SLOW_READ
            await measure("5 ms reads", uploads, 3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, swallowing() as url:
        folder = Path(place)
        for path in files_in(folder):
            path.write_bytes(os.urandom(SIZE))
        (folder / "small.mp4").write_bytes(b"small")
        asyncio.run(main(url, folder))
        for peer in ("ours", "httpx", "aiohttp"):
            # Fresh processes: what was once allocated and freed would serve the next upload.
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                extra = pool.starmap(extra_memory, [(peer, url, folder)] * 3, chunksize=1)
            print(f"P7  extra memory, {peer:<8} {spread(extra)} MB")
