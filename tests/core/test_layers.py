"""The architecture: imports point one way, and one module knows httpx."""

import ast
from pathlib import Path

import pytest

from tests.house import modules, warm_send

PACKAGE = Path(__file__).parent.parent.parent / "desk360_async"
# From the ground up: a module may import what stands before it. Those on one line don't know each other.
LAYERS = [
    "_errors _version _threads _inflate _json _workbook",
    "_redaction _outcomes _tables _numbering",
    "_arguments _attachments _bucket _calls _phones _postgres",
    "_limiter _observer _settings _sqlite _validators",
    "_messages _token_file",
    "_endpoints _replies _token_table _uploads",
    "_codec _shared_limiter _templates",
    "_http _wire",
    "_pipeline",
    "_admission _downloads _fanout _resources",
    "_client",
]
RANK = {
    name: rank for rank, line in enumerate(LAYERS) for name in line.split()
}  # a new module gets its place here
MODULES = sorted(PACKAGE.glob("_*.py"))
CORE = [path for path in MODULES if path.stem != "__init__"]


def imported(path: Path, *, typing_too: bool = False) -> set[str]:
    """Return the modules that a file imports, ours without the package's name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            home = home.replace("desk360_async.", ".", 1) if not node.level else home
            found |= {
                f"{home}{alias.name}" if home in (".", "desk360_async") else home for alias in node.names
            }
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_imports_point_one_way(path: Path) -> None:
    """A module knows only what stands below it, and nothing that stands on top of the core."""
    ours = {
        name.lstrip(".").removeprefix("desk360_async")
        for name in imported(path)
        if name.startswith((".", "desk360_async"))
    }
    assert {name for name in ours if RANK[name] >= RANK[path.stem]} == set()


@pytest.mark.parametrize(
    "path",
    [p for p in PACKAGE.rglob("*.py") if "sandbox" not in p.parts and "testing" not in p.parts],
    ids=str,
)
def test_one_module_knows_httpx(path: Path) -> None:
    """Whoever wants another HTTP stack replaces one file."""
    knows = {name.partition(".")[0] for name in imported(path)} & {"httpx", "httpx2", "httpcore"}
    assert knows == ({"httpx"} if path.name == "_http.py" else set())


LOGGING = {
    "_observer.py": "writes the records of all events",
    "_redaction.py": "a filter for the records of the HTTP stack",
    "cli/_app.py": "keeps the lines of psycopg's pool off the terminal",
    "cli/_session.py": "the handler of --verbose",
    "cli/apps/django/shop.py": "an app of the user's own",
    "cli/apps/fastapi/shop.py": "an app of the user's own",
}


def test_no_module_logs_by_itself() -> None:
    """Its events go to the observers (`Notice`), and `LogObserver` writes them."""
    found = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "logging" in imported(path)
    }
    assert found == set(LOGGING)


@pytest.mark.parametrize("path", sorted((PACKAGE / "sandbox").rglob("*.py")), ids=lambda path: path.stem)
def test_the_sandbox_imports_nothing_of_the_client(path: Path) -> None:
    """Each checks the other, instead of sharing a mistake."""
    ours = {name for name in imported(path, typing_too=True) if name.startswith(("desk360_async", "."))}
    assert {
        name for name in ours if not name.startswith((".sandbox", "desk360_async.sandbox", "._"))
    } == set()


def test_packages_on_top_import_public_names_and_the_shared_rooms() -> None:
    """`tests.house` lists the shared rooms; each exception has its reason."""
    assert {f"{module.name} <- {name}" for module in modules() for name in module.foreign} == {
        # The kit's limiter is the real bucket on another clock, and hands out the real permits.
        "desk360_async.testing._clock <- _bucket.Bucket",
        "desk360_async.testing._clock <- _limiter.TokenPermit",
        # A row of a list is refused for the reasons for which the client warns.
        "desk360_async.campaigns._recipients <- _validators.refused_by_whatsapp",
        # A stored reply names people by their place among the phones that the wire lists.
        "desk360_async.once._records <- _messages.phones_of",
        # A deferred message is compared with the one that was sent under its key, by the send log's hashes.
        # `--dry-run` prints the requests themselves.
        "desk360_async.cli.campaign <- _wire.call_for",
        # `db init` makes the tables of the workers' engine with the others.
        "desk360_async.cli.workers <- workers._work.Work",
    }


@pytest.mark.anyio
async def test_a_warm_send_passes_through_few_functions() -> None:
    """Each frame is a place to read; 0.1.0 had 72 in 15 files, with less to do. `python -m tests.house`."""
    path = await warm_send()
    assert len(path) <= 66, path
    assert len({file for file, _ in path}) <= 10


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_a_module_says_what_may_live_there(path: Path) -> None:
    """In its docstring."""
    assert path.stem == "_version" or ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "path", [p for p in PACKAGE.rglob("*.py") if p.parent.name not in ("workers", "cli")], ids=str
)
def test_only_the_command_line_knows_the_workers_and_only_the_workers_their_engine(path: Path) -> None:
    """They stand on campaigns and send logs, and need an extra."""
    knows = {name for name in imported(path) if name.startswith(("desk360_async.workers", "procrastinate"))}
    assert knows == set()
