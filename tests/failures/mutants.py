"""Mutates the outcome table and the token bucket, one change at a time, and counts the killed mutants.

`python -m tests.failures.mutants [outcomes] [bucket]`; the exit code is 1 if more survive than a part allows.
Needs `os.fork`.
"""

import ast
import copy
import os
import runpy
import signal
import sys
import types
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from attrs import Factory, frozen

from desk360_async import _bucket, _outcomes

HERE = Path(__file__).parent
# A mutant may loop for ever; so many seconds are ten times what the slowest one needs.
PATIENCE = 60
MEMBERS = {
    "Outcome": ("ACCEPTED", "NOT_SENT", "UNKNOWN"),
    "Again": ("NEVER", "WHEN_ALLOWED", "BACKOFF"),
    "Reach": ("REFUSED", "UNTRUSTED", "UNSTARTED", "STARTED"),
}
OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
Change = tuple[str, Callable[[ast.AST], None]]


@frozen
class Part:
    """A module to mutate: the top-level names in question, their tests, and the share that must be killed.

    `equal` has the mutants that behave as the module does, by the start of their line and their change, each
    with its reason. They don't count.
    """

    title: str
    module: types.ModuleType
    names: frozenset[str]
    tests: tuple[Path, ...]
    least: float
    equal: dict[tuple[str, str], str] = Factory(dict[tuple[str, str], str])

    @property
    def source(self) -> str:
        """The module's text."""
        return Path(str(self.module.__file__)).read_text(encoding="utf-8")


_ANY_DUE = "away and away[0] <= now or (in_flight and in_flight[next(iter(in_flight))] <= now)"
_BULK_OR_WARY = "lane != 'interactive' or self.wary_until > now"
_FREE_OF_AWAY = "self.limit - len(away)"
_FREE = f"{_FREE_OF_AWAY} - len(in_flight)"
_OTHERS_TOOK = f"remaining < {_FREE}"
_REFUSED = "status == 429 or 'retry-after' in headers"
PARTS = {
    "outcomes": Part(
        "the outcome table",
        _outcomes,
        frozenset({"verdict", "status_of_code", "_unanswered", "_PROVES_NOTHING", "_STATUS_OF_CODE"}),
        (HERE / "test_verdict_table.py",),
        1.0,
    ),
    "bucket": Part(
        "the bucket",
        _bucket,
        frozenset({"Bucket", "Waits", "BULK_SHARE", "IDLE_SHARE", "SPREAD", "WARY_PACE"}),
        (HERE.parent / "limiter" / "test_bucket.py", HERE.parent / "limiter" / "test_turns.py"),
        0.95,
        {
            ("if self.wary_until > NEVER", "True for self.wary_until > NEVER"): "min() takes the -inf",
            ("if (away and away[0]", f"True for {_ANY_DUE}"): "a sweep takes back only what is due",
            ('if lane != "interactive" or', f"True for {_BULK_OR_WARY}"): "the branch is the long way",
            ('if lane != "interactive" or', "another text than 'interactive'"): "the branch is the long way",
            (
                'if bulk_since is not None and self.ready_at("bulk")',
                "another text than 'bulk'",
            ): "any lane but the interactive one is paced as bulk",
            ("if remaining < self.limit", f"True for {_OTHERS_TOOK}"): "then the long way counts the others",
            (
                "if remaining < self.limit",
                f"another operator than {_OTHERS_TOOK}",
            ): "the long way counts none",
            ("if remaining < self.limit", f"another operator than {_FREE}"): "the long way as well",
            ("if remaining < self.limit", f"another operator than {_FREE_OF_AWAY}"): "the long way as well",
            ("newest_answer: int = -1", "1 -1"): "numbers begin at 0",
            ("newest_answer: int = -1", "1 +1"): "numbers begin at 0",
            (
                "spread = math.inf if",
                "True for self.away or self.in_flight",
            ): "with none away bulk takes at once",
            ('if status == 429 or "retry', f"True for {_REFUSED}"): "without both the gate stays as it is",
        },
    ),
}


def changes(node: ast.AST) -> Iterator[Change]:
    """Yield the changes that can be made at a node: a name, and a function that makes it in place."""
    if isinstance(node, ast.Compare):
        for index, op in enumerate(node.ops):
            if type(op) in OTHER:
                yield f"another operator than {ast.unparse(node)}", _swap(index, OTHER[type(op)]())
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"and/or in {ast.unparse(node)}", lambda n: setattr(n, "op", other)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"not {node.value}", lambda n, v=node.value: setattr(n, "value", not v)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        for by in (-1, 1):
            yield f"{node.value} {by:+}", lambda n, v=node.value + by: setattr(n, "value", v)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value:
        yield f"half of {node.value}", lambda n, v=node.value: setattr(n, "value", v / 2)
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        operator = ARITHMETIC[type(node.op)]()
        yield f"another operator than {ast.unparse(node)}", lambda n: setattr(n, "op", operator)
    elif isinstance(node, ast.Name) and node.id in ("min", "max"):
        yield f"the other of {node.id}", lambda n, v=node.id: setattr(n, "id", "minmax".replace(v, ""))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield f"another text than {node.value!r}", lambda n, v=node.value: setattr(n, "value", v + "x")
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        for member in MEMBERS.get(node.value.id, ()):
            if member != node.attr:
                yield f"{member} for {ast.unparse(node)}", lambda n, m=member: setattr(n, "attr", m)
    elif isinstance(node, ast.If | ast.IfExp):
        for value in (True, False):
            yield (
                f"{value} for {ast.unparse(node.test)}",
                lambda n, v=value: setattr(n, "test", ast.Constant(v)),
            )


def _swap(index: int, op: ast.cmpop) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.Compare)
        node.ops[index] = op

    return change


def mutants(part: Part) -> Iterator[tuple[int, str, ast.Module]]:
    """Yield each mutant of a part: the changed line, the change's name, and the module."""
    module = ast.parse(part.source)
    for place, statement in enumerate(module.body):
        targets = [ast.unparse(t) for t in statement.targets] if isinstance(statement, ast.Assign) else []
        if not part.names & {getattr(statement, "name", ""), *targets}:
            continue
        for index, node in enumerate(ast.walk(_without_prose(statement))):
            for name, change in changes(node):
                mutant = copy.copy(module)
                copied = _without_prose(statement)
                change(list(ast.walk(copied))[index])
                mutant.body = [*module.body[:place], copied, *module.body[place + 1 :]]
                yield getattr(node, "lineno", 0), name, ast.fix_missing_locations(mutant)


def _without_prose(statement: ast.stmt) -> ast.stmt:
    """Return a copy without docstrings and annotations of arguments: a change there changes no behaviour."""
    bare = copy.deepcopy(statement)
    for node in ast.walk(bare):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.body = [one for one in node.body if not _is_text(one)] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = None
    return bare


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def run_tests(path: str) -> None:
    """Call each test of a file with each of its parameters, without pytest: collecting would take longer."""
    tests = {name: test for name, test in runpy.run_path(path).items() if name.startswith("test_")}
    assert tests
    for test in tests.values():
        tables = [mark.args for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        for rows in product(*(values for _, values in tables)):
            given = dict[str, object]()
            for (names, _), row in zip(tables, rows, strict=True):
                given.update({names: row} if isinstance(names, str) else zip(names, row, strict=True))
            test(**given)


def survives(part: Part, mutant: ast.Module) -> bool:
    """Whether all tests of a part pass on a mutant; it runs in a process of its own."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.alarm(PATIENCE)
        changed = types.ModuleType(part.module.__name__)
        changed.__dict__.update(__package__="desk360_async", __file__=part.module.__file__)
        sys.modules[part.module.__name__] = changed
        try:
            exec(compile(mutant, str(part.module.__file__), "exec"), changed.__dict__)
            for path in part.tests:
                run_tests(str(path))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def survey(part: Part) -> bool:
    """Run all mutants of a part, print the survivors, and return whether enough were killed."""
    assert survives(part, ast.parse(part.source)), "the tests fail unchanged"
    ran, alive, equal = 0, 0, 0
    lines = part.source.splitlines()
    for line, name, mutant in mutants(part):
        if any(lines[line - 1].strip().startswith(start) and name == it for start, it in part.equal):
            equal += 1
            continue
        ran += 1
        if survives(part, mutant):
            alive += 1
            print(f"survived: line {line}: {name}", flush=True)
    killed = ran - alive
    print(
        f"{killed} of {ran} mutants of {part.title} killed ({100 * killed / ran:.1f} %); "
        f"{equal} others behave as the module does",
        flush=True,
    )
    return killed >= part.least * ran


def main() -> int:
    """Survey the parts named on the command line, or all; the unchanged module must survive first."""
    enough = [survey(PARTS[name]) for name in sys.argv[1:] or PARTS]
    return int(not all(enough))


if __name__ == "__main__":
    sys.exit(main())
