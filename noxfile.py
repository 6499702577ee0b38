"""The project's sessions: `nox -l` lists them, `nox -s NAME` runs one. They need only nox and pip."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nox

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit(
        f"desk360-async needs Python 3.11 or later, and this is {sys.version_info[0]}.{sys.version_info[1]}; "
        "make the environment with a newer one: python3.11 -m venv .venv"
    )

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = f".[{','.join(PROJECT['project']['optional-dependencies'])}]"
# The first and the last Python that the project is for; the full suite runs on the one that runs nox.
OLDEST, NEWEST = (3, 11), (3, 14)
# Tests in virtual time don't mind each other; those marked `real` have the machine to themselves.
SPREAD = ("-n", "auto", "--maxprocesses", "8")
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"

nox.options.sessions = ["lint", "types", "docs", "tests"]
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False


def installed(version: str) -> str | None:
    """Return the folder of a Python that really runs; pyenv's shims are on the path even where they don't."""
    name = f"python{version}"
    on_path = (Path(folder, name) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder)
    for python in [*on_path, *Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")]:
        if python.is_file():
            runs = subprocess.run(
                [python, "-c", "import venv, sqlite3, ssl"], capture_output=True, check=False
            )
            if runs.returncode == 0:
                return str(python.parent)
    return None


def pythons() -> Iterator[str]:
    """Yield the Pythons to test on, the one for the full suite last, so that its summary comes last."""
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        version = f"{OLDEST[0]}.{minor}"
        folder = installed(version) if version != THIS else None
        if folder:
            # Where virtualenv looks; behind the path that there is, but before the shims on it.
            os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
            yield version
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    yield THIS


def group(*names: str) -> list[str]:
    """Return the requirements of development groups."""
    return list(nox.project.dependency_groups(PROJECT, *names))


@nox.session
def demo(session: nox.Session) -> None:
    """Send a list and a campaign to a sandbox on this machine."""
    session.install(".[cli]")
    session.run("desk360", "demo", *session.posargs)


@nox.session(python=list(pythons()))
def tests(session: nox.Session) -> None:
    """Run the full suite with coverage on the Python that runs nox, and a smoke run on the others."""
    if session.python != THIS:
        session.install("-e", EXTRAS, *group("test"))
        session.run("python", "-m", "pytest", "-q", "-m", "smoke", *session.posargs)
        return
    session.install("-e", EXTRAS, *group("test", "respx", "hosts"))
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    session.run("coverage", "erase")
    first = ("-m", "not real and not postgres", "--cov", "--cov-report=")
    session.run("python", "-m", "pytest", "-q", *SPREAD, *first)
    # Not by pytest-cov: it begins only after pytest's plugins, ours among them, were imported.
    session.run("coverage", "run", "-m", "pytest", "-q", "-m", "real or postgres")
    session.run("coverage", "combine", "--append", "-q")
    check_coverage(session)


def check_coverage(session: nox.Session) -> None:
    """Print the files with gaps; in CI, fail below 99 % of core (the goal is 100 %) or 95 % of the rest.

    Tests are skipped where PostgreSQL, Redis, PHP or strace is missing, so no floor holds on each machine.
    """
    core = "desk360_async/_*.py,desk360_async/__init__.py"
    for choice, least in ((f"--include={core}", "99"), (f"--omit={core},tests/*", "95")):
        floor = (f"--fail-under={least}",) if "CI" in os.environ else ()
        session.run("coverage", "report", choice, *floor)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests that aren't `real` on the lowest allowed version of each direct dependency."""
    session.install("-e", EXTRAS, *group("test", "respx"), *floors())
    session.run("python", "-m", "pytest", "-q", *SPREAD, "-m", "not real and not postgres", *session.posargs)


def floors() -> list[str]:
    """Return `name==version` for the lower bound of each dependency, those of the extras too."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(line for name in ("cli", "speed", "phone") for line in extras[name]),
    ]
    bounds = [re.match(r"([\w-]+)>=([\w.]+)", line) for line in wanted]
    return sorted({f"{bound[1]}=={bound[2]}" for bound in bounds if bound})


@nox.session
def httpx2(session: nox.Session) -> None:
    """Run the tests that aren't `real` on httpx2, the fork of httpx; respx can't intercept it."""
    # Without respx: its plugin would import httpx before the tests can put the fork in its place.
    session.install("-e", EXTRAS, *group("test", "hosts", "httpx2"))
    stack = {"DESK360_TEST_HTTP_STACK": "httpx2"}
    chosen = (*SPREAD, "-m", "not real and not postgres and not respx")
    session.run("python", "-m", "pytest", "-q", *chosen, *session.posargs, env=stack)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, and the permissions and pins of the workflows."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--quiet", ".github")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package and of its public names, with mypy and pyright."""
    session.install(EXTRAS, *group("types", "test", "respx"), "nox")
    session.run("mypy")
    session.run("pyright")
    check_known_types(session)


def check_known_types(session: nox.Session) -> None:
    """Fail unless the types of all public names are known; the apps of `desk360 new` belong to users."""
    command = ("pyright", "--verifytypes", "desk360_async", "--ignoreexternal", "--outputjson")
    report = str(session.run(*command, silent=True, success_codes=[0, 1]))
    found = json.loads(report[report.index("{") :])["typeCompleteness"]
    ours = [one for one in found["symbols"] if not one["name"].startswith("desk360_async.cli.apps.")]
    unknown = [one["name"] for one in ours if one["isTypeAmbiguous"] or not one["isTypeKnown"]]
    session.log(f"types are known of {len(ours) - len(unknown):,} of {len(ours):,} names")
    if unknown or not ours:
        session.error(f"types are unknown or ambiguous: {', '.join(unknown) or 'no name was found'}")


@nox.session
def house(session: nox.Session) -> None:
    """Count modules, long functions and habits of the prose; print them, and never fail."""
    session.run("python", "-m", "tests.house", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the guide and the reference as one site, and print where it is; warnings are errors."""
    session.install("-e", EXTRAS, *group("docs"))
    session.run("python", ".ci/site.py", str(Path(session.create_tmp()).resolve() / "site"))


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Run the benchmarks, or those named after `--`; at the end all figures stand in one table."""
    session.install(EXTRAS, *group("benchmarks", "test", "respx", "hosts"))
    shared, by_hand = {"side_by_side", "figures", "stalls"}, {"large"}
    scripts = {path.stem for path in HERE.glob("benchmarks/[a-z]*.py")} - shared - by_hand
    rows = Path(session.create_tmp()).resolve() / "figures.jsonl"
    rows.unlink(missing_ok=True)
    for script in session.posargs or sorted(scripts):
        # Some end with 1 where a goal is missed; the table marks it.
        session.run(
            "python",
            "-m",
            f"benchmarks.{script}",
            env={"DESK360_BENCHMARKS": str(rows)},
            success_codes=[0, 1],
        )
    session.run("python", "-m", "benchmarks.figures", str(rows))


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel, and try the wheel in empty environments."""
    session.install(*group("build"))
    folder = Path(session.create_tmp()).resolve()
    for old in folder.glob("dist/*"):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"), str(HERE), silent=True)
    (wheel,) = folder.glob("dist/*.whl")
    for built in folder.glob("dist/*"):  # where a release takes them from
        (HERE / "dist").mkdir(exist_ok=True)
        (HERE / "dist" / built.name).write_bytes(built.read_bytes())
    session.chdir(folder)  # out of the checkout, or it would be imported in the wheel's place
    check_bare_wheel(session, folder, wheel)
    check_scratch_project(session, folder, wheel)


def check_bare_wheel(session: nox.Session, folder: Path, wheel: Path) -> None:
    """Install the wheel without extras: it imports, and `desk360` says what is missing."""
    python = fresh(session, folder / "bare", str(wheel))
    session.run(
        python, "-c", "import desk360_async as d; print(d.AsyncDesk360, d.__version__)", external=True
    )
    command = str(Path(python).with_name("desk360"))
    session.run(command, "demo", external=True, success_codes=[2])


def check_scratch_project(session: nox.Session, folder: Path, wheel: Path) -> None:
    """Test somebody else's FastAPI endpoint with the testing kit, in a project outside the checkout."""
    source = HERE / "tests" / "scratch_project"
    python = fresh(session, folder / "scratch", f"{wheel}[testing]", "fastapi", "pytest-aiohttp")
    # nox's own folder lies in the checkout, and pytest would take this project's settings for the other's.
    with tempfile.TemporaryDirectory() as elsewhere:
        for path in source.glob("*.py"):
            Path(elsewhere, path.name).write_bytes(path.read_bytes())
        with session.chdir(elsewhere):
            session.run(python, "-m", "pytest", "-q", external=True)


def fresh(session: nox.Session, folder: Path, *requirements: str) -> str:
    """Make a virtual environment with nothing but the requirements, and return its Python."""
    session.run("python", "-m", "venv", "--clear", str(folder))
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", *requirements, external=True)
    return python


@nox.session
def sbom(session: nox.Session) -> None:
    """Write the CycloneDX bill of materials of the newest wheel in dist/ into sbom/."""
    session.install(*group("build"))
    wheel = max(HERE.glob("dist/*.whl"), key=lambda path: path.stat().st_mtime)
    folder = Path(session.create_tmp()).resolve()
    python = fresh(session, folder / "installed", str(wheel))
    (HERE / "sbom").mkdir(exist_ok=True)
    target = HERE / "sbom" / f"{wheel.stem}.cdx.json"
    session.run("cyclonedx-py", "environment", "--output-reproducible", "-o", str(target), python)
    session.log(f"the bill of materials: {target}")


@nox.session
def browser(session: nox.Session) -> None:
    """Test the sandbox's page in Chromium, and make the pictures in .github again.

    Without Chromium the tests are skipped, and so is the accessibility check without npm.
    """
    session.install("-e", EXTRAS, *group("test", "browser"))
    if shutil.which("npm"):
        here = str(HERE / "tests" / "browser")
        session.run("npm", "--prefix", here, "ci", "--silent", "--no-audit", "--no-fund", external=True,
                    success_codes=[0, 1])  # fmt: skip
    session.run(
        "python", "-m", "pytest", "-q", "tests/browser", *session.posargs, env={"DESK360_BROWSER": "1"}
    )


@nox.session
def simulate(session: nox.Session) -> None:
    """Simulate campaigns with faults and crashes: `nox -s simulate -- --seeds 10000 [--postgres]`."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("python", "-m", "tests.campaigns.simulation", *session.posargs)


@nox.session
def killpoints(session: nox.Session) -> None:
    """Kill a campaign at one system call after another: `nox -s killpoints [-- MOST [SHAPE …]]`."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("python", "-m", "tests.campaigns.killing", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """Feed a campaign 20,000 statuses among 500 messages, by workers that are killed."""
    session.install("-e", EXTRAS, *group("test", "hosts"))
    session.run("python", "tests/webhooks/storm.py", *session.posargs)


@nox.session
def stories(session: nox.Session) -> None:
    """Play 10,000 random stories of customers and sends against a model: `nox -s stories [-- NUMBER]`."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("python", "-m", "tests.customers.stories", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the outcome table and the bucket, one place at a time; tests must notice 100 % and 95 %."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("python", "-m", "tests.failures.mutants", *session.posargs)


@nox.session
def attack(session: nox.Session) -> None:
    """Kill campaigns 300 times over a vendor that misbehaves, and send 10,000 messages: `-- --seed N`."""
    session.install("-e", EXTRAS, *group("test"))
    session.run("python", "-m", "tests.failures.attack", "--kills", "300", *session.posargs)
    session.run("python", "-m", "tests.failures.leftovers", "--sends", "10000", *session.posargs)
    for way in ("bare", "procrastinate"):
        session.run("python", "-m", "tests.campaigns.hail", "100", "10", "20000", way)
    session.run("python", "-m", "tests.campaigns.steady")
    session.run("python", "-m", "tests.workers.outbox", "1000", "30")
