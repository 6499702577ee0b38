"""A PostgreSQL cluster of the tests' own, in a temporary folder and on a Unix socket and a loopback port."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-the-tests"


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


def free_port() -> int:
    """Return a port of the loopback that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Cluster:
    """A cluster that was made by `cluster`, and may be stopped and started."""

    def __init__(self, folder: Path, programs: Path, *, fsync: bool) -> None:
        self.folder = folder
        self.programs = programs
        self.port = free_port()
        self.options = f"-p {self.port} -k {folder} -h 127.0.0.1 -c fsync={'on' if fsync else 'off'}"
        self.dsn = f"postgresql://tester:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, as another user where we are root."""
        as_other = ["setpriv", "--reuid=nobody", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*as_other, str(self.programs / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-w", "-o", self.options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; "immediate" is a crash."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")


@contextmanager
def cluster(*, fsync: bool = False) -> Generator[Cluster]:
    """Make and start a cluster; skip the test where PostgreSQL isn't installed."""
    programs = binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="desk360-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        made = Cluster(folder, programs, fsync=fsync)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made.run(
            "initdb", "-D", str(folder / "data"), "-U", "tester", "-A", "scram-sha-256", f"--pwfile={secret}"
        )
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Generator[Cluster]:
    """Return the cluster of this test session; its commits last, as our stores require."""
    pytest.importorskip("psycopg_pool", reason="needs the extra [postgres]")
    with cluster(fsync=True) as made:
        yield made


@pytest.fixture
def dsn(postgres: Cluster) -> str:
    """Return the DSN of a database without our schema."""
    import psycopg

    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS desk360 CASCADE")
    return postgres.dsn
