"""The help of a command, read from its source: its parameters, and what its docstring says of them.

The parser could print it too, but it would load itself, the command and all that the command needs for that:
half a second of CPU, most of what a user waits for. The tests hold both against each other.
"""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ._commands import COMMANDS, Command, exit_codes, table

__all__ = ["help_for"]

_WORDS = {"int": "INT", "float": "NUMBER", "Path": "PATH", "str": "TEXT"}


class _Option(NamedTuple):
    names: tuple[str, ...]
    metavar: str
    required: bool
    repeated: bool
    text: str


def help_for(words: Sequence[str]) -> str | None:
    """Return the help that was asked for; None if none was, or the source isn't there.

    Args:
        words: as they were typed.
    """
    path: list[Command] = []
    commands: tuple[Command, ...] = COMMANDS
    for word in words:
        found = [command for command in commands if command.name == word]
        if not found:
            break
        path += found
        commands = found[0].commands
    rest = list(words[len(path) :])
    before = rest[: rest.index("--")] if "--" in rest else rest
    asked = "--help" in before or "-h" in before
    name = " ".join(["desk360", *(command.name for command in path)])
    if path and path[-1].target:
        return _of_command(name, path[-1]) if asked else None
    # A word behind a group is a typo, which the parser knows how to answer.
    return _of_group(name, path[-1]) if path and all(word[0:1] == "-" for word in rest) else None


def _of_group(name: str, group: Command) -> str:
    return f"""\
Usage: {name} COMMAND …

{group.summary}

Commands:
{table(group.commands)}

`{name} COMMAND --help` explains a command and its options.

Exit codes:
{exit_codes()}"""


def _of_command(name: str, command: Command) -> str | None:
    module, _, function = command.target.partition(":")
    try:
        source = _tree(module)
        shared = _tree("_options")
    except OSError:
        return None  # only the compiled modules are there; the parser knows how to help
    node = next(n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == function)
    about, said = _parts(ast.get_docstring(node) or "")
    arguments = list(_arguments(node, said, _aliases(source)))
    options = list(_options(node, said, _aliases(source)))
    common = list(_shared(shared)) if "common" in said else []
    words = [*(_shown(argument) for argument in arguments), *map(_needed, options)]
    usage = " ".join([f"Usage: {name}", *filter(None, words), *(["[OPTIONS]"] if options or common else [])])
    return "\n\n".join(
        [
            *(_wrapped(paragraph) for paragraph in [usage, *about]),
            *_section("Arguments", [(_shown(argument), argument.text) for argument in arguments]),
            *_section("Options", [_line(option) for option in options]),
            *_section("Shared options", [_line(option) for option in common]),
            f"Exit codes:\n{exit_codes()}",
        ]
    )


def _tree(module: str) -> ast.Module:
    return ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))


def _aliases(source: ast.Module) -> dict[str, str]:
    return {
        statement.targets[0].id: ast.unparse(statement.value)
        for statement in source.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _parts(doc: str) -> tuple[list[str], dict[str, str]]:
    """Return a docstring's paragraphs, and what its section says of each parameter."""
    about, _, section = re.sub(r"\nAttributes:\n", "\nArgs:\n", doc).partition("\nArgs:\n")
    said = re.findall(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", section, re.MULTILINE)
    return about.strip().split("\n\n"), {name: " ".join(text.split()) for name, text in said}


def _arguments(node: ast.FunctionDef, said: dict[str, str], aliases: dict[str, str]) -> Iterator[_Option]:
    optional = len(node.args.posonlyargs) - len(node.args.defaults)
    for index, argument in enumerate(node.args.posonlyargs):
        choices = ", ".join(_choices(_kind(argument, aliases)))
        text = f"{said[argument.arg]} [one of: {choices}]" if choices else said[argument.arg]
        yield _Option((argument.arg.upper(),), "", index < optional, False, text)
    if many := node.args.vararg:
        yield _Option((many.arg.upper(),), "", True, True, said[many.arg])


def _options(node: ast.FunctionDef, said: dict[str, str], aliases: dict[str, str]) -> Iterator[_Option]:
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if argument.arg != "common":
            yield _option(argument.arg, _kind(argument, aliases), default is None, said[argument.arg])


def _kind(argument: ast.arg, aliases: dict[str, str]) -> str:
    assert argument.annotation is not None
    kind = ast.unparse(argument.annotation)
    return aliases.get(kind, kind)


def _choices(kind: str) -> list[str]:
    return re.findall(r"'(\w+)'", kind) if "Literal" in kind else []


def _shared(options: ast.Module) -> Iterator[_Option]:
    common = next(node for node in options.body if isinstance(node, ast.ClassDef))
    _, said = _parts(ast.get_docstring(common) or "")
    for field in common.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            yield _option(field.target.id, ast.unparse(field.annotation), False, said[field.target.id])


def _option(name: str, kind: str, required: bool, text: str) -> _Option:
    names = tuple(re.findall(r"'(--?[a-z-]+)'", kind)) or (f"--{name.replace('_', '-')}",)
    word = next((shown for python, shown in _WORDS.items() if re.search(rf"\b{python}\b", kind)), "")
    return _Option(names, "|".join(_choices(kind)) or word, required, "tuple" in kind, text)


def _needed(option: _Option) -> str:
    return f"{option.names[0]} {option.metavar}" if option.required else ""


def _shown(argument: _Option) -> str:
    shown = argument.names[0] + ("…" if argument.repeated else "")
    return shown if argument.required else f"[{shown}]"


def _line(option: _Option) -> tuple[str, str]:
    long, short = option.names[0], option.names[1:]
    repeated = "…" if option.repeated else ""
    lead = " ".join(filter(None, [", ".join([*short, long]), option.metavar, repeated]))
    return lead, option.text + (" [required]" if option.required else "")


def _width() -> int:
    # Longer lines are no easier to read.
    return max(40, min(100, shutil.get_terminal_size().columns))


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), _width())


def _section(title: str, lines: list[tuple[str, str]]) -> list[str]:
    if not lines:
        return []
    indent = min(26, max(len(lead) for lead, _ in lines)) + 4
    shown = [f"{title}:"]
    for lead, text in lines:
        # Beneath a lead that is too long for the column.
        first = f"  {lead}".ljust(indent) if len(lead) + 4 <= indent else f"  {lead}\n{'':{indent}}"
        filled = textwrap.fill(text, _width() - indent).replace("\n", "\n" + " " * indent)
        shown.append(first + filled)
    return ["\n".join(shown)]
