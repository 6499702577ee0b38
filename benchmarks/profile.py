"""Where the CPU of a warm `send_text` goes, by package, beside bare httpx.

Run: python -m benchmarks.profile
"""

import asyncio
import cProfile
import pstats
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks.pipeline import BODY, client
from benchmarks.side_by_side import answering

CALLS = 1000
PACKAGES = ("desk360_async", "httpx", "httpcore", "h11", "anyio", "sniffio", "cattrs", "attr", "asyncio")
Send = Callable[[], Awaitable[object]]


def package_of(file: str) -> str:
    """Return the package that a function's file belongs to."""
    if file in ("~", "") or file.startswith("<"):
        return "C and sockets"
    return next((name for name in PACKAGES if name in Path(file).parts), "the rest of Python")


async def measure(send: Send) -> tuple[Counter[str], int]:
    """Return the profiled seconds by package, and the number of Python calls, of many sends."""
    for _ in range(50):
        await send()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(CALLS):
        await send()
    profile.disable()
    spent: Counter[str] = Counter()
    calls = 0
    # typeshed has no `stats`: by (file, line, function) the calls, own seconds and more.
    for (file, _, _), (count, _, own, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]  # missing in its stub
        spent[package_of(file)] += own
        calls += count
    return spent, calls


async def main() -> None:
    """Print a table: each package's share of a send, in percent of bare httpx's whole."""
    with answering(BODY) as url:
        target = f"{url}/v1/integrations/11/conversations/messages"
        fields = {"to": "+905551112233", "text": "Hello!"}
        async with client(url) as ours, httpx.AsyncClient(headers={"Authorization": "Bearer key"}) as bare:
            mine, my_calls = await measure(lambda: ours.send_text("+905551112233", "Hello!"))
            theirs, their_calls = await measure(lambda: bare.post(target, json=fields))
    whole = sum(theirs.values())
    print(f"{'% of httpx.post':<20}{'send_text':>12}{'httpx.post':>12}")
    for name in sorted({*mine, *theirs}, key=lambda name: -mine[name]):
        print(f"{name:<20}{100 * mine[name] / whole:>12.1f}{100 * theirs[name] / whole:>12.1f}")
    print(f"{'all':<20}{100 * sum(mine.values()) / whole:>12.1f}{100:>12.1f}")
    print(f"{'calls a send':<20}{my_calls / CALLS:>12.0f}{their_calls / CALLS:>12.0f}")


if __name__ == "__main__":
    asyncio.run(main())
