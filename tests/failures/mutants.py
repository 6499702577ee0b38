"""Mutates the outcome table, one change at a time, and counts the mutants that its tests kill.

`python -m tests.failures.mutants`; the exit code is 1 if one survives. Needs `os.fork`.
"""

import ast
import copy
import os
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from desk360_async import _outcomes

TESTS = str(Path(__file__).with_name("test_verdict_table.py"))
MUTATED = {"verdict", "status_of_code", "_unanswered", "_PROVES_NOTHING", "_STATUS_OF_CODE"}
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
Change = tuple[str, Callable[[ast.AST], None]]


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


def mutants() -> Iterator[tuple[str, ast.Module]]:
    """Yield each mutant of the table: the change's name, and the module."""
    module = ast.parse(Path(_outcomes.__file__).read_text(encoding="utf-8"))
    for place, statement in enumerate(module.body):
        targets = [ast.unparse(t) for t in statement.targets] if isinstance(statement, ast.Assign) else []
        if not MUTATED & {getattr(statement, "name", ""), *targets}:
            continue
        nodes = list(ast.walk(_without_docstring(statement)))
        for index, node in enumerate(nodes):
            for name, change in changes(node):
                mutant = copy.deepcopy(module)
                copied = copy.deepcopy(_without_docstring(statement))
                change(list(ast.walk(copied))[index])
                mutant.body[place] = copied
                yield f"line {getattr(node, 'lineno', 0)}: {name}", ast.fix_missing_locations(mutant)


def _without_docstring(statement: ast.stmt) -> ast.stmt:
    if not isinstance(statement, ast.FunctionDef):
        return statement
    bare = copy.deepcopy(statement)
    bare.body = [s for s in bare.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    bare.args.kw_defaults = list(bare.args.kw_defaults)
    for argument in [*bare.args.args, *bare.args.kwonlyargs]:
        argument.annotation = None
    bare.returns = None
    return bare


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


def survives(mutant: ast.Module) -> bool:
    """Whether all tests of the table pass on a mutant; it runs in a process of its own."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        changed = types.ModuleType(_outcomes.__name__)
        changed.__dict__.update(__package__="desk360_async", __file__=_outcomes.__file__)
        sys.modules[_outcomes.__name__] = changed
        try:
            exec(compile(mutant, _outcomes.__file__, "exec"), changed.__dict__)
            run_tests(TESTS)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    """Run all mutants and print the survivors; the unchanged table must survive first."""
    assert survives(ast.parse(Path(_outcomes.__file__).read_text(encoding="utf-8"))), (
        "the tests fail unchanged"
    )
    ran, alive = 0, []
    for name, mutant in mutants():
        ran += 1
        if survives(mutant):
            alive.append(name)
            print(f"survived: {name}", flush=True)
    killed = ran - len(alive)
    print(f"{killed} of {ran} mutants of the outcome table killed ({100 * killed / ran:.1f} %)")
    return bool(alive)


if __name__ == "__main__":
    sys.exit(main())
