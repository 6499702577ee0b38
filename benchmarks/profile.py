"""Where the CPU of a warm `send_text` goes, by package, before and now, beside bare httpx.

Run: python -m benchmarks.profile [COMMIT]. The versions alternate, each in a process of its own. It needs the
checkout's history.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks.pipeline import BODY, client
from benchmarks.side_by_side import HERE, answering, spread
from benchmarks.side_by_side import package_of as package_at

CALLS = 1000
CALLS_A_SEND = "calls a send"
ROUNDS = 5
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


async def profiles() -> dict[str, dict[str, float]]:
    """Return the seconds by package, and the calls of one send, for `send_text` and for bare httpx."""
    with answering(BODY) as url:
        target = f"{url}/v1/integrations/11/conversations/messages"
        fields = {"to": "+905551112233", "text": "Hello!"}
        async with client(url) as ours, httpx.AsyncClient(headers={"Authorization": "Bearer key"}) as bare:
            mine, my_calls = await measure(lambda: ours.send_text("+905551112233", "Hello!"))
            theirs, their_calls = await measure(lambda: bare.post(target, json=fields))
    return {
        "send_text": {**mine, CALLS_A_SEND: my_calls / CALLS},
        "httpx.post": {**theirs, CALLS_A_SEND: their_calls / CALLS},
    }


def profiles_of(package: Path) -> dict[str, dict[str, float]]:
    """Return the profiles of the package in a folder, in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(HERE)])}
    command = [sys.executable, "-P", "-m", "benchmarks.profile", "--child"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environ)
    return dict(json.loads(done.stdout))


def shares(found: dict[str, dict[str, float]], side: str) -> dict[str, float]:
    """Return each package's share of a side, in percent of bare httpx's whole, and the calls of one send."""
    whole = sum(seconds for name, seconds in found["httpx.post"].items() if name != CALLS_A_SEND)
    rows = {name: 100 * seconds / whole for name, seconds in found[side].items() if name != CALLS_A_SEND}
    return {**rows, "all": sum(rows.values()), CALLS_A_SEND: found[side][CALLS_A_SEND]}


def compare(commit: str) -> None:
    """Print both versions' tables: medians, since the versions alternate."""
    columns: dict[str, list[dict[str, float]]] = {"before": [], "now": [], "httpx.post": []}
    with package_at(commit) as before:
        for _ in range(ROUNDS):
            columns["before"].append(shares(profiles_of(before), "send_text"))
            now = profiles_of(HERE)
            columns["now"].append(shares(now, "send_text"))
            columns["httpx.post"].append(shares(now, "httpx.post"))
    names = dict.fromkeys(name for rounds in columns.values() for one in rounds for name in one)
    print(f"{'% of httpx.post':<20}{''.join(f'{name:>26}' for name in columns)}")
    for name in sorted(names, key=lambda name: (name == CALLS_A_SEND, name == "all")):
        cells = [spread([one.get(name, 0.0) for one in rounds]) for rounds in columns.values()]
        print(f"{name:<20}{''.join(f'{cell:>26}' for cell in cells)}")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default="8acdd14", help="the version before (default: 0.1.0)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(asyncio.run(profiles())))
    else:
        compare(given.commit)


if __name__ == "__main__":
    main()
