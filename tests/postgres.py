"""A PostgreSQL cluster of the tests' own, in a temporary folder and on a Unix socket and a loopback port."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "s3cret-of-the-tests"


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
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
        self.socket_dsn = f"postgresql://tester:{PASSWORD}@/postgres?host={folder}&port={self.port}"

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

    @property
    def is_running(self) -> bool:
        """Whether the server runs, as its PID file shows."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def promote(self) -> None:
        """Make a primary of this standby."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "promote")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; "immediate" is a crash."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")


@contextmanager
def cluster(*, fsync: bool = False, within: Path | None = None) -> Generator[Cluster]:
    """Make and start a cluster in a folder; skip the test where PostgreSQL isn't installed."""
    programs = binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb (Debian: postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="desk360-postgres-", dir=within))
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
            if made.is_running:
                made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def standby(primary: Cluster) -> Generator[Cluster]:
    """Make and start an asynchronous replica of a cluster."""
    folder = Path(tempfile.mkdtemp(prefix="desk360-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        made = Cluster(folder, primary.programs, fsync=True)
        made.run("pg_basebackup", "-d", primary.dsn, "-D", str(folder / "data"), "-R", "-c", "fast")
        made.start()
        try:
            yield made
        finally:
            if made.is_running:
                made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def pgbouncer(server: Cluster) -> Generator[str]:
    """Run PgBouncer in transaction mode before a cluster; give its DSN. Skip the test where it is missing."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("needs PgBouncer (Debian: pgbouncer)")
    port = free_port()
    users, settings = server.folder / "users.txt", server.folder / "pgbouncer.ini"
    users.write_text(f'"tester" "{PASSWORD}"\n')
    settings.write_text(
        f"[databases]\npostgres = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 3\n"
    )
    as_other = ["setpriv", "--reuid=nobody", "--clear-groups"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*as_other, program, "-q", str(settings)], stderr=subprocess.DEVNULL)
    try:
        yield f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(20)


class Proxy:
    """A TCP proxy before a cluster that cuts one connection at a message to the server, or drops all bytes.

    Args:
        server: the cluster.

    Attributes:
        drops: whether no byte passes any more, in either direction, as with a frozen server.
    """

    def __init__(self, server: Cluster) -> None:
        self._port = server.port
        self._left, self._arrives, self.cuts = 0, False, 0
        self.drops = False
        self._ends: tuple[socket.socket, ...] = ()
        self._mutex = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        port = self._listening.getsockname()[1]
        self.dsn = f"postgresql://tester:{PASSWORD}@127.0.0.1:{port}/postgres"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, number: int, *, arrives: bool) -> None:
        """Cut the connection of the n-th message from now on; `arrives`, after the message was passed on."""
        with self._mutex:
            self._left, self._arrives = number, arrives

    def close(self) -> None:
        """Cut all connections, and take no more."""
        self._listening.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._ends += (client, server)
            for source, target, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, target, counted), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._mutex:
                    is_cut = counted and self._left == 1
                    self._left -= counted and self._left > 0
                    self.cuts += is_cut
                if not self.drops and (not is_cut or self._arrives):
                    target.sendall(data)
                if is_cut:
                    break
        for end in (source, target):  # the other direction's thread closes its own source
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


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
