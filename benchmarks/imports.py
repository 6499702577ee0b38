"""P5: the CPU of importing the package, and of a first send, over httpx's; each in a fresh interpreter.

Run: python -m benchmarks.imports [COMMIT …]

Each COMMIT's import, client and first send are compared with this checkout's.
With rich and click installed, `import httpx` loads them too, and the ratio looks better than it is: so all
run as in an environment that has only what the package requires. A no-op transport spares httpx what it loads
for its first connection (anyio's half for asyncio, httpcore, the CA file). So the same is measured over a
socket too.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.figures import note
from benchmarks.side_by_side import HERE, answering, fresh_process, package_of, spread

ROUNDS = 21
FIRST = "import, client and first send"
FIRST_OF_HTTPX = "the same of httpx"
FLOOR = "httpx with our packages loaded"
BODY = b'{"message_id":"gBEG"}'
PROGRAM = """
import asyncio
async def main():
    async with CLIENT as client:
        await client.SEND
asyncio.run(main())
"""
NO_OP = f"""
import httpx
def answer(request): return httpx.Response(200, content={BODY})
{PROGRAM}"""
OURS = NO_OP.replace("CLIENT", "AsyncDesk360('k', integration_id=1, transport=httpx.MockTransport(answer))")
BARE = NO_OP.replace("CLIENT", "httpx.AsyncClient(transport=httpx.MockTransport(answer))")
IMPORTS = {
    "import httpx": "import httpx",
    "httpx, attrs, cattrs, anyio": "import httpx, attrs, cattrs, anyio",
    "AsyncDesk360, TemplateMessage": "from desk360_async import AsyncDesk360, TemplateMessage",
    FIRST: "from desk360_async import AsyncDesk360"
    + OURS.replace("SEND", "send_text('+905551112233', 'Hello')"),
    FIRST_OF_HTTPX: BARE.replace("SEND", "post('http://x/', json={'to': '+905551112233'})"),
    "import desk360_async": "import desk360_async",
}
# What a client can't go below: its packages, and anyio's half for asyncio, which P6 wants loaded early.
IMPORTS[FLOOR] = f"import attrs, cattrs, anyio._backends._asyncio\n{IMPORTS[FIRST_OF_HTTPX]}"


def over_socket(url: str) -> tuple[str, str]:
    """Return the programs of a first send to a server: ours and httpx's."""
    ours = PROGRAM.replace("CLIENT", f"AsyncDesk360('k', integration_id=1, base_url={url!r})")
    ours = ours.replace("SEND", "send_text('+905551112233', 'Hello')")
    bare = PROGRAM.replace("CLIENT", "httpx.AsyncClient()")
    bare = bare.replace("SEND", f"post({url!r}, json={{'to': '+905551112233'}})")
    return f"from desk360_async import AsyncDesk360{ours}", f"import httpx{bare}"


def cpu_of(statement: str, cache: str, package: Path | None = None) -> float:
    """Milliseconds of CPU that a fresh interpreter spends on an import."""
    timed = f"import time; before = time.process_time()\n{statement}\nprint(time.process_time() - before)"
    return fresh_process(timed, cache, package=package)[0] * 1000


def compare_commit(commit: str) -> None:
    """Print the CPU of the first send beside the one of a commit, run by run."""
    with tempfile.TemporaryDirectory() as cache, package_of(commit) as before:
        pairs = [
            (cpu_of(IMPORTS[FIRST], cache, HERE), cpu_of(IMPORTS[FIRST], cache, before)) for _ in range(12)
        ]
    ours, theirs = (list(side) for side in zip(*pairs[1:], strict=True))
    print(f"P5 {FIRST}: {spread(ours)} ms CPU here, {spread(theirs)} at {commit}")
    note(f"P5 {FIRST}", [mine / its for mine, its in pairs[1:]], peer=commit)


def main() -> None:
    """Print what each import costs, and its ratio to httpx's."""
    with tempfile.TemporaryDirectory() as cache:
        for statement in IMPORTS.values():
            cpu_of(statement, cache)
        spent: dict[str, list[float]] = {name: [] for name in IMPORTS}
        for _ in range(ROUNDS):
            for name, statement in IMPORTS.items():
                spent[name].append(cpu_of(statement, cache))
    base = spent["import httpx"]
    for name, values in spent.items():
        ratios = [mine / its for mine, its in zip(values, base, strict=True)]
        print(f"P5  {name:<32} {spread(values)} ms CPU, {spread(ratios)} of httpx")
    for name, goal in ((FIRST, 1.6), (FLOOR, None)):
        ratios = [each / its for each, its in zip(spent[name], spent[FIRST_OF_HTTPX], strict=True)]
        note(f"P5 {name}", ratios, goal, peer="httpx")
    with tempfile.TemporaryDirectory() as cache, answering(BODY) as url:
        pairs = [[cpu_of(each, cache) for each in over_socket(url)] for _ in range(ROUNDS)][1:]
    note("P5 the same over a socket", [ours / its for ours, its in pairs], 1.6, peer="httpx")


if __name__ == "__main__":
    for commit in sys.argv[1:]:
        compare_commit(commit)
    if not sys.argv[1:]:
        main()
