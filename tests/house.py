"""Count the package's rooms and the words in its prose: `python -m tests.house`, or `nox -s house`.

The counts help to see a drift. The aim is a reader who understands a module after one reading.
"""

import ast
import asyncio
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import httpx

from desk360_async import AsyncDesk360

PACKAGE = Path(__file__).parent.parent / "desk360_async"
# Rooms below the packages on top, which each of these may import although their names are private.
SHARED = frozenset(
    [
        "_arguments",
        "_sqlite",
        "_postgres",
        "_json",
        "_threads",
        "_phones",
        "_redaction",
        "_errors",
        "_observer",
        "_tables",
    ]
)
LONGEST = 45
SMALL = 60
# Each pattern counts a habit that made the first version hard to read fast.
HABITS = {
    "noun clauses with 'what'": re.compile(
        r"\bwhat (?:is|isn.t|was|wasn.t|came|comes|there|it|they|a|one|can|can.t|goes|may|has|lacks|looks|we|"
        r"somebody|an|the|of|leaves|ends|holds|makes|fails|never|every)\b",
        re.IGNORECASE,
    ),
    "nobody, nothing, none": re.compile(
        r"\b(?:nobody|no one|nothing|none of|is none|are none|be none)\b", re.IGNORECASE
    ),
    "tell, say, know": re.compile(r"\b(?:tells?|told|says?|said|knows?|knew)\b", re.IGNORECASE),
}
WANTED = {"noun clauses with 'what'": 12, "nobody, nothing, none": 12, "tell, say, know": 15}
_LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.COMMENT,
}


class Module(NamedTuple):
    """One module, counted."""

    name: str
    code_lines: int
    prose: str
    functions: tuple[tuple[str, int], ...]
    foreign: tuple[str, ...]


def modules() -> Iterator[Module]:
    """Yield the counts of each module of the package.

    The recipes of the guide and the apps that `desk360 new` copies are data: the package never imports them.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        if not {"guide", "apps"}.intersection(path.relative_to(PACKAGE).parts):
            yield measure(path)


def measure(path: Path) -> Module:
    """Return the counts of one module.

    Args:
        path: the module's file.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documented = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node)
    ]
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    code = {
        line
        for token in tokens
        if token.type not in _LAYOUT
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in documented:
        code -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    prose = "\n".join([*(ast.get_docstring(node) or "" for node in documented), *comments])
    name = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
    return Module(name, len(code), prose, tuple(_functions(tree)), tuple(_foreign(tree, path)))


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def _foreign(tree: ast.Module, path: Path) -> Iterator[str]:
    """Yield the private modules of another package that a module imports, beside the shared rooms."""
    home = path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not home:
            continue
        depth = len(path.relative_to(PACKAGE).parts)
        if node.level == depth and node.module is None:
            yield from (alias.name for alias in node.names if _is_private(alias.name))
        elif (node.level == depth and node.module) or (node.module or "").startswith("desk360_async."):
            parts = (node.module or "").removeprefix("desk360_async.").split(".")
            if parts[0] != home and any(_is_private(part) for part in parts):
                yield from (f"{'.'.join(parts)}.{alias.name}" for alias in node.names)


def _is_private(name: str) -> bool:
    return name.startswith("_") and name not in SHARED


def per_ten_thousand(text: str) -> dict[str, float]:
    """Return how often each habit occurs per 10,000 words.

    Args:
        text: docstrings and comments.
    """
    words = max(1, len(text.split()))
    return {habit: 10_000 * len(pattern.findall(text)) / words for habit, pattern in HABITS.items()}


class Answering(httpx.AsyncBaseTransport):
    """Answers each send at once, with the headers of the vendor's answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200,
            headers={"x-ratelimit-limit": "60", "x-ratelimit-remaining": "40"},
            json={"message_id": "gBEGkFBXUQRnAgnoOJ1ESPKBwME"},
        )


async def warm_send() -> list[tuple[str, str]]:
    """Return file and name of each function of the package that a warm `send_text` enters, in order."""
    entered: dict[CodeType, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            entered.setdefault(frame.f_code)

    async with AsyncDesk360("key", integration_id=11, transport=Answering()) as client:
        await client.send_text("+905551112233", "Hello")
        await client.send_text("+905551112233", "Hello")
        sys.setprofile(note)
        try:
            await client.send_text("+905551112233", "Hello")
        finally:
            sys.setprofile(None)
    return [(Path(code.co_filename).name, code.co_qualname) for code in entered]


def main() -> int:
    """Print the counts of the package, and of the modules that need a look."""
    found = list(modules())
    small = [m for m in found if m.code_lines < SMALL and not m.name.rpartition(".")[2].startswith("__")]
    long_ = [f"{m.name}.{name} ({lines})" for m in found for name, lines in m.functions if lines > LONGEST]
    foreign = {f"{m.name} <- {name}" for m in found for name in m.foreign}
    lines = sum(m.code_lines for m in found)
    print(f"modules: {len(found)}, code lines: {lines:,}, under {SMALL}: {len(small)}")
    print("  " + ", ".join(f"{m.name.removeprefix('desk360_async.')} {m.code_lines}" for m in small))
    print(f"functions over {LONGEST} lines: {len(long_)}", *long_, sep="\n  ")
    print(f"names from another package's private modules: {len(foreign)}", *sorted(foreign), sep="\n  ")
    path = asyncio.run(warm_send())
    print(f"a warm send: {len(path)} functions in {len({file for file, _ in path})} files")
    whole = "\n".join(m.prose for m in found)
    print(f"prose, per 10,000 of {len(whole.split()):,} words:")
    for habit, share in per_ten_thousand(whole).items():
        print(f"  {habit}: {share:.0f} (wanted: at most {WANTED[habit]})")
    worst = sorted(
        ((sum(len(p.findall(m.prose)) for p in HABITS.values()), m.name) for m in found), reverse=True
    )
    print("most in: " + ", ".join(f"{name.removeprefix('desk360_async.')} {n}" for n, name in worst[:12]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
