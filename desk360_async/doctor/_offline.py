"""Look at this machine: versions, extras, settings, key, TLS, clocks, files. No request is made."""

import os
import re
import socket
import sqlite3
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from pathlib import Path
from typing import Literal, TypeAlias

from attrs import field, frozen

from desk360_async import ConfigurationError, Desk360Error
from desk360_async._arguments import DEFAULT_BASE_URL, parse_api_key, parse_base_url
from desk360_async._postgres import MIGRATIONS, Database, is_dsn
from desk360_async._sqlite import SQLiteFile, network_file_system

KNOWN = {
    "DESK360_API_KEY": "the API key",
    "DESK360_INTEGRATION_ID": "the integration",
    "DESK360_BASE_URL": "the server",
    "DESK360_LEDGER": "the campaigns' ledger",
    "DESK360_SEND_LOG": "the log of sends by key",
    "DESK360_CUSTOMERS": "the customers' store",
}
SANDBOX_KEY = "sandbox-key"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_SECRET_BYTES = 32
_EXTRAS = {
    "cli": "the commands of `desk360`",
    "excel": "recipients in .ods and .xls files",
    "httpx2": "clients with http='httpx2'",
    "otel": "OpenTelemetry's traces and metrics",
    "phone": "phone numbers in national form",
    "postgres": "ledgers and limiters in PostgreSQL",
    "sandbox": "sandboxes",
    "speed": "faster JSON",
    "testing": "your tests with pytest",
    "workers": "campaigns on several hosts",
}
_SOON = 30  # days; a certificate that expires sooner is worth a warning
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?\s*([^;]*)(?:;.*extra\s*==\s*['\"]([\w-]+)['\"])?")


State: TypeAlias = Literal["ok", "warning", "problem"]
"""The weight of a finding: fine, worth a look, or in need of a fix."""


@frozen
class Finding:
    """One thing that the doctor looked at on this machine.

    Attributes:
        name: the thing, such as "API key".
        state: "ok", "warning" or "problem".
        text: the finding in words; it holds no key and no password.
        mend: the fix; "" where there is no need for one.
    """

    name: str
    state: State
    text: str
    mend: str = ""


@frozen(kw_only=True)
class Subject:
    """The settings and files that the doctor looks at, in addition to this machine.

    Attributes:
        environ: the environment variables.
        key: the API key from a file; None: the environment's key. It is never shown.
        base_url: the server as given, or None.
        ledger: the path of a ledger, or the DSN of a database; None for neither.
        limiter: the path of the shared limiter's file, or None.
        secret: a webhook secret, or None; it is never shown.
        port: the port for a webhook receiver, or None.
        max_connections: maximum number of connections that a client opens.
    """

    environ: Mapping[str, str]
    key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    ledger: Path | str | None = None
    limiter: Path | None = None
    secret: str | None = None
    port: int | None = None
    max_connections: int = 20


def examine(subject: Subject) -> Iterator[Finding]:
    """Yield a finding for each thing that the doctor looks at; no request is made.

    Args:
        subject: settings and files.
    """
    yield _python()
    yield from _packages()
    yield from _environment(subject.environ)
    yield _base_url(subject)
    yield _key(subject)
    yield _proxy(subject.environ)
    yield _tls()
    yield _clock()
    if is_dsn(subject.ledger):
        yield _database(str(subject.ledger))
    elif subject.ledger is not None:
        yield from _ledger(Path(subject.ledger))
    if subject.limiter is not None:
        yield _limiter(subject.limiter)
    yield _open_files(subject.max_connections)
    if subject.secret is not None:
        yield _webhook_secret(subject.secret)
    if subject.port is not None:
        yield _port(subject.port)
    yield _guard()


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", "ok", f"{here}, SQLite {sqlite3.sqlite_version}, {ssl.OPENSSL_VERSION}")


def _packages() -> Iterator[Finding]:
    """Compare the installed versions with the package's own lower bounds, extra by extra."""
    try:
        wanted = distribution("desk360-async").requires or []
    except PackageNotFoundError:
        mend = "python -m pip install desk360-async"
        yield Finding("desk360-async", "warning", "imported from a folder, and not installed", mend)
        return
    by_extra: dict[str, list[str]] = {}
    for line in wanted:
        if found := _REQUIREMENT.match(line):
            by_extra.setdefault(found[3] or "", []).append(_lack(found[1], found[2]))
    for extra, lacks in sorted(by_extra.items()):
        missing = [lack for lack in lacks if lack]
        if not extra:
            yield _base_packages(missing)
        elif missing:
            mend = f"python -m pip install 'desk360-async[{extra}]'"
            text = f"lacks {', '.join(missing)}; the extra is for {_EXTRAS.get(extra, 'some features')}"
            yield Finding(f"extra [{extra}]", "warning", text, mend)
        else:
            yield Finding(f"extra [{extra}]", "ok", "installed")


def _base_packages(missing: list[str]) -> Finding:
    if missing:
        mend = "python -m pip install -U desk360-async"
        return Finding("packages", "problem", f"too old or missing: {', '.join(missing)}", mend)
    return Finding(
        "packages", "ok", f"desk360-async {version('desk360-async')}; its required packages are new enough"
    )


def _lack(name: str, bounds: str) -> str:
    """Return why a requirement isn't met, or ""; only its lower bound is compared."""
    try:
        installed = version(name)
    except PackageNotFoundError:
        return name
    least = re.search(r">=\s*([\d.]+)", bounds)
    if least and _numbers(installed) < _numbers(least[1]):
        return f"{name} {installed} (needs {least[1]})"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:4])


def _environment(environ: Mapping[str, str]) -> Iterator[Finding]:
    given = sorted(name for name in environ if name.startswith("DESK360_"))
    known = [f"{name} ({KNOWN[name]})" for name in given if name in KNOWN]
    yield Finding("environment", "ok", ", ".join(known) or "no DESK360_ variable is set")
    for name in given:
        if name not in KNOWN:
            close = get_close_matches(name, KNOWN, 1)
            mend = f"rename it to {close[0]}" if close else f"unset it, or use one of {', '.join(KNOWN)}"
            yield Finding("environment", "warning", f"{name} is set, and the SDK never reads it", mend)


def _base_url(subject: Subject) -> Finding:
    try:
        url = parse_base_url(subject.base_url, allow_http=False, environ=subject.environ)
    except ConfigurationError as error:
        return Finding("base URL", "problem", str(error), "correct --base-url or DESK360_BASE_URL")
    source = "--base-url" if subject.base_url else "DESK360_BASE_URL"
    is_vendor = url == DEFAULT_BASE_URL
    origin = "the vendor's" if is_vendor else f"from {source}"
    return Finding("base URL", "ok", f"{url} ({origin})")


def _key(subject: Subject) -> Finding:
    raw = subject.environ.get("DESK360_API_KEY", "") if subject.key is None else subject.key
    if not raw.strip():
        mend = "for live requests, make a key on the panel's Public API page and set DESK360_API_KEY to it"
        return Finding("API key", "warning", "not set; a sandbox needs none", mend)
    try:
        key = parse_api_key(raw)
    except ConfigurationError as error:
        text = str(error).partition(";")[0]
        return Finding("API key", "problem", text, "copy the whole key from the panel's Public API page")
    is_live = "desk360.com" in (
        subject.base_url or subject.environ.get("DESK360_BASE_URL") or DEFAULT_BASE_URL
    )
    if key == SANDBOX_KEY and is_live:
        mend = "set the account's own key, or point DESK360_BASE_URL at the sandbox"
        return Finding(
            "API key", "problem", "the key is the sandbox's, and the base URL is the vendor's", mend
        )
    notes: list[str] = []
    if raw.strip().lower().startswith("bearer"):
        notes.append("a pasted 'Bearer ' is dropped")
    if raw != raw.strip():
        notes.append("spaces around it are dropped")
    if len(key) < 20:
        text = f"the key has {len(key)} characters; the vendor's example has 64"
        return Finding("API key", "warning", text, "copy the whole key from the panel's Public API page")
    return Finding("API key", "ok", "; ".join([f"{len(key)} characters", *notes]))


def _proxy(environ: Mapping[str, str]) -> Finding:
    given = [name for name in _PROXIES if environ.get(name)]
    if not given:
        return Finding("proxy", "ok", "none in the environment")
    text = f"the SDK ignores {', '.join(given)} on purpose, so that no variable redirects the key"
    return Finding("proxy", "warning", text, "pass AsyncDesk360(proxy=...) if requests need a proxy")


def _tls() -> Finding:
    import certifi

    place = certifi.where()
    try:
        context = ssl.create_default_context(cafile=place)
    except (OSError, ssl.SSLError) as error:
        mend = "python -m pip install -U --force-reinstall certifi"
        return Finding("TLS", "problem", f"the certificates {place} can't be loaded: {error}", mend)
    ends = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in context.get_ca_certs()]
    days = int((max(ends) - time.time()) / 86_400)
    text = f"{len(ends)} certificate authorities from certifi; the newest expires in {days} days"
    if days > _SOON:
        return Finding("TLS", "ok", text)
    return Finding("TLS", "warning", text, "python -m pip install -U certifi")


def _clock() -> Finding:
    info = time.get_clock_info("monotonic")
    with tempfile.NamedTemporaryFile() as file:
        apart = abs(os.fstat(file.fileno()).st_mtime - time.time())
    if not info.monotonic or apart > 2:
        mend = "set the clock by NTP; leases and reset times depend on it"
        return Finding("clock", "problem", f"file times differ from the wall clock by {apart:.0f} s", mend)
    return Finding("clock", "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; file times agree with it")


def _ledger(path: Path) -> Iterator[Finding]:
    if kind := network_file_system(path):
        text = f"{path} lies on {kind}, whose locks and syncs are unreliable"
        yield Finding("ledger", "problem", text, "use a local disk; for several hosts, use PostgreSQL")
    if not path.parent.is_dir():
        mend = f"mkdir -p {path.parent}, or correct --ledger or DESK360_LEDGER"
        yield Finding("ledger", "problem", f"the folder {path.parent} doesn't exist", mend)
        return
    if not os.access(path.parent, os.W_OK):
        mend = f"give this user write access: chown or chmod u+w {path.parent}"
        yield Finding("ledger", "problem", f"this user can't write to the folder {path.parent}", mend)
        return
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            trial = SQLiteFile(Path(folder) / "trial.db", name="a trial file")
            try:
                trial.open()
            finally:
                trial.close()
    except (ConfigurationError, OSError) as error:
        text = str(error) if isinstance(error, ConfigurationError) else f"{path.parent}: {error.strerror}"
        mend = "use a folder on a local disk: correct --ledger or DESK360_LEDGER"
        yield Finding("ledger", "problem", text, mend)
        return
    yield Finding("ledger", "ok", f"SQLite keeps its commits in {path.parent} (WAL, synchronous=FULL)")
    if path.exists():
        yield _campaigns(path)
    else:
        yield Finding("ledger", "ok", f"{path} doesn't exist yet; the first campaign makes it")


def _database(dsn: str) -> Finding:
    """Check that a database keeps its commits and has the tables, without writing."""
    try:
        database = Database(dsn)
        if why := _no_connection(dsn):
            mend = "start the server, or correct --ledger or DESK360_LEDGER; PG… variables complete the DSN"
            return Finding("PostgreSQL", "problem", f"{database.name} can't be reached: {why}", mend)
        try:
            with database.bare_connection() as connection:
                database.refuse(database.facts(connection))
                version = database.version(connection)
        finally:
            database.close()
    except Desk360Error as error:
        return Finding("PostgreSQL", "problem", str(error), "see `desk360 docs machines`")
    if version < len(MIGRATIONS):
        text = f"{database.name}: its tables have version {version} of {len(MIGRATIONS)}"
        return Finding("PostgreSQL", "problem", text, "desk360 db migrate")
    return Finding("PostgreSQL", "ok", f"{database.name} keeps its commits and has the tables")


def _no_connection(dsn: str) -> str:
    """Return why one connection fails, or "". A pool would repeat the attempt, and log each."""
    try:
        import psycopg
    except ImportError:
        return ""  # Database names the missing extra
    try:
        psycopg.connect(dsn, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return str(error).strip().partition("\n")[0].removeprefix("connection failed: ")
    except psycopg.Error:
        return ""  # Database names a DSN that can't be read, without its password
    return ""


def _campaigns(path: Path) -> Finding:
    """Count a ledger's campaigns; the ledger stays with the process that owns it."""
    import anyio

    from desk360_async.campaigns import LedgerError, campaigns_in

    try:
        names = anyio.run(campaigns_in, path)
    except LedgerError as error:
        return Finding("ledger", "problem", str(error), "correct --ledger or DESK360_LEDGER")
    return Finding("ledger", "ok", f"{path} holds {_plural(len(names), 'campaign')}")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _limiter(path: Path) -> Finding:
    if not path.exists():
        return Finding("shared limiter", "ok", f"the first live command makes {path}")
    if not os.access(path, os.W_OK):
        owner = path.stat()
        mend = f"chgrp and chmod g+rw {path}* and its folder, so that all processes share it"
        text = f"this user can't write {path} (uid {owner.st_uid}, mode {owner.st_mode & 0o777:04o})"
        return Finding("shared limiter", "problem", text, mend)
    return Finding("shared limiter", "ok", f"{path}; an app joins it with HostLimiter({str(path)!r})")


def _open_files(max_connections: int) -> Finding:
    try:
        import resource
    except ImportError:
        return Finding("open files", "ok", "this system sets no limit")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < max_connections * 4:
        mend = f"ulimit -n {max(1024, max_connections * 8)}"
        return Finding("open files", "problem", f"{soft} allowed, for {max_connections} connections", mend)
    return Finding("open files", "ok", f"{soft} allowed, for {max_connections} connections")


def _webhook_secret(secret: str) -> Finding:
    size = len(secret.encode())
    if size < _SECRET_BYTES:
        mend = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        return Finding(
            "webhook secret",
            "problem",
            f"{size} bytes, and {_SECRET_BYTES} are needed: the secret alone protects the URL",
            f"make a new one: {mend}",
        )
    return Finding("webhook secret", "ok", f"{size} bytes")


def _port(port: int) -> Finding:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            mend = "stop the program that uses it, or choose another port"
            return Finding("port", "problem", f"{port} can't be used: {error.strerror}", mend)
        except OverflowError:
            return Finding("port", "problem", f"{port} is no port", "choose a number from 1 to 65535")
    return Finding("port", "ok", f"{port} is free")


def _guard() -> Finding:
    if entry_points(group="pytest11", name="desk360"):
        return Finding("live guard", "ok", "pytest fails tests that try to reach Desk360")
    mend = "python -m pip install 'desk360-async[testing]'"
    text = "the pytest plugin that stops tests from reaching Desk360 is not installed"
    return Finding("live guard", "warning", text, mend)
